"""docs/triggers.md, written from the trigger model: `python tests/scaler/triggers_doc.py` rewrites it."""

from pathlib import Path

from pydantic.fields import FieldInfo

from scaler.keys import Kind, rule_of
from scaler.signals.reading import ReadingName, unit_of
from scaler.sources import presets
from scaler.trigger import KEDA_OWN, Trigger

PATH = Path(__file__).parents[2] / "docs" / "triggers.md"

HEAD = """\
# Triggers

<!-- Written by tests/scaler/triggers_doc.py from scaler/trigger.py; a test compares them. -->

A ScaledObject's trigger of type `external` or `external-push` tells the scaler what to size a workload by. All values
are strings; a duration has its unit. Unknown keys, durations without their unit and contradictions are refused, all at
once, with the key, the value and the rule.

```yaml
triggers:
  - type: external
    metadata:
      scalerAddress: slicewise-scaler.slicewise.svc:9090
      queuePerReplica: "4"
      sessionsPerReplica: "16"
      stabilizationDown: 5m
```

The scaler serves one metric, `desired_replicas`, for an `AverageValue` target of 1 (KEDA's default; leave `metricType`
alone). The HPA swallows steps below its tolerance of 10 %: set `behavior.scaleUp.tolerance` and
`behavior.scaleDown.tolerance` to `"0"` in the ScaledObject, and `hpaTolerance: "0"` in the trigger.
"""

TAIL = """\
## What is measured

Readings of the preset `{preset}`; `slicewise scaler presets` lists those of each engine. All are of the ScaledObject's
own namespace. Series of pods carry the labels `namespace` and `pod`; a Deployment's pods are named `WORKLOAD-HASH-ID`.

| reading | unit |
|---|---|
{readings}

Agents and gateways export what no engine knows, as gauges:

| metric | labels | meaning |
|---|---|---|
| `agent_sessions_active` | `namespace`, `pod` | of an agent pod: the live sessions that it holds |
| `agent_sessions_active` | `namespace`, `workload` | of a gateway: all live sessions of a workload; counts alone |
| `agent_requests_waiting` | `namespace`, `workload` | of a gateway: requests that it holds for want of a pod |

A workload at zero replicas has no pods to measure: only a gateway's metrics wake it.

## Ahead

`policy: ahead` asks for the replicas that will be needed when one that is asked for now is ready. It is what
`slicewise sim evaluate` measures as `slicewise` (`docs/evaluation.md`).

```yaml
triggers:
  - type: external
    metadata:
      scalerAddress: slicewise-scaler.slicewise.svc:9090
      policy: ahead
      coldStart: 3m
      promptTokensPerSecondPerReplica: "15800"
      generationTokensPerSecondPerReplica: "5400"
      slotsPerReplica: "128"
      firstTokenTarget: 2.5s
      hpaTolerance: "0"
```

- **Demand** is work, in replicas kept busy: prompt tokens/s (not found in a prefix cache) /
  `promptTokensPerSecondPerReplica` + generated tokens/s / `generationTokensPerSecondPerReplica`, and the work of the
  requests that pile up (arrivals less ends). Unlike a queue or concurrency it does not saturate when all replicas are
  busy, and says nothing about how many there are: raising or lowering the replicas does not change it. Measure both
  numbers once, on one replica: prompts of one token's answer for the first, short prompts with all slots taken for
  the second. `slicewise scaler check` prints the demand with its parts.
- **Answer** = headroom x the highest demand of a hold, at least what arrives now and what works off the queue in a
  minute. Headroom and hold are the pair that would have cost least over the last 48 hours, replicas and late work
  together. With `firstTokenTarget` the price of late work rises with what was late beyond 0.65 of `lateShare` in the
  last seven days, up to four times, and falls likewise. Until more than six hours are known, the headroom is at least
  1.4 and the hold the longest. Every step says its numbers.
- **State.** One instant a minute is learnt from. A new process reads the last two days from Prometheus at that step,
  with `firstTokenTarget` the seven days of the budget, four hours a query (in shorter stretches where many triggers
  ask), while it already answers; until it has caught up it does not lower. Two scalers that have read the same answer
  the same; with direct scrapes there is no past to read, and they do so as many days after the younger one began.
  Nothing is written anywhere.
- **Not known.** Without tokens a minute teaches nothing and nothing is lowered; after 150 s of that, a whole hold has
  to be seen again before anything is lowered. Pods that are not seen make the demand a lower bound: it may raise.
- **Zero** is answered when nothing arrives, waits or runs and the demand was below half a replica for a whole hold,
  so that `minReplicaCount: 0` works with KEDA's `cooldownPeriod`; from zero nothing can be seen ahead, and only a
  gateway's `agent_requests_waiting` wakes the workload.
- **Memory.** It counts compute. Where the KV cache is full before the slots are (long contexts), give as
  `slotsPerReplica` what really fits, and add `kvUsagePerReplica` with `policy: composite`.
- **HPA.** The answer is an absolute number (`AverageValue`, target 1), so that nothing multiplies. It holds by
  itself: set `scaleDown.stabilizationWindowSeconds: 0`, both tolerances to `"0"`, and no
  `scaleUp.stabilizationWindowSeconds`; `slicewise scaler check` says where the object differs.

With `policy: composite` its keys may stand beside those of other policies: up if any says so, down only if all agree.

## What is not known

A reading that is missing, older than `maxAge`, or NaN is not 0. While anything that a policy needs is not known, or
pods are ready whose metrics are not in, the workload may be scaled up by what is known and is never scaled down. While
nothing is known, `onMissing` decides. A scaler that has just started does not scale down before it has seen one whole
`stabilizationDown`.
"""


def render() -> str:
    rows = [_row(field.alias or name, field) for name, field in Trigger.model_fields.items()]
    known = presets.load()["vllm"]
    units = [f"| `{name}` | {unit_of(name)} |" for name in ReadingName if known.ways(name)]
    table = "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])
    own = ", ".join(f"`{key}`" for key in sorted(KEDA_OWN))
    keda = (
        f"KEDA's own keys are left alone: {own}. A key with the suffix `FromEnv` takes its value from that environment "
        "variable\nof the workload."
    )
    tail = TAIL.format(preset="vllm", readings="\n".join(units))
    return f"{HEAD}\n## Keys\n\n{table}\n\n{keda}\n\n{tail}"


def _row(key: str, field: FieldInfo) -> str:
    return f"| `{key}` | {rule_of(field)} | {_default(field)} | {field.description} |"


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "none"
    in_seconds = any(isinstance(item, Kind) and item.unit for item in field.metadata)
    return f"`{field.default:g}s`" if in_seconds else f"`{field.default}`"


if __name__ == "__main__":
    PATH.write_text(render())
