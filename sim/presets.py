"""Scenarios to begin with: what is served, on which GPU. The text is for people to read and change."""

from collections.abc import Mapping
from string import Template
from types import MappingProxyType
from typing import Final

# chat: what people read; sizes as in Azure's conversation trace of 2023 (Patel et al., ISCA 2024), prompts 1,020
# and answers 129 tokens in the median. code: Azure's code trace, prompts 1,469 and answers 13, in bursts. agent:
# TraceLab (arXiv 2606.30560), see sim/workloads/agents.py.
LOADS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "chat": """\
workload:
  kind: agents            # a chat is a session in which nobody calls a tool
  sessions:               # how many begin; in between the rate changes in a straight line
  - {at: 0m, perMinute: 20}
  - {at: 20m, perMinute: 60}
  - {at: 40m, perMinute: 20}
  tasks: {p50: 3, p90: 10, max: 40}        # questions of one person
  steps: {p50: 1, p90: 1}                  # answers a question
  contextTokens: {p50: 900, p90: 2700}
  appendedTokens: {p50: 60, p90: 300}
  outputTokens: {p50: 130, p90: 420, max: 2000}
  humanWait: {p50: 40s, p90: 5m, max: 1h}
  contextLimitTokens: 16000
  compactedTokens: 4000
""",
        "code": """\
workload:
  kind: bursts
  rate:
  - {at: 0m, perMinute: 60}
  burstsPerHour: 40
  requests: {p50: 80, p90: 300, max: 3000}  # of one burst
  spread: 10s
  promptTokens: {p50: 1470, p90: 5200, max: 7500}
  outputTokens: {p50: 13, p90: 55, max: 1000}
""",
        "agent": """\
workload:
  kind: agents
  sessions:               # how many begin; in between the rate changes in a straight line
  - {at: 0m, perMinute: 1}
  - {at: 15m, perMinute: 1}
  - {at: 20m, perMinute: 8}
  - {at: 30m, perMinute: 8}
  - {at: 35m, perMinute: 1}
  tasks: {p50: 1, p90: 4, max: 20}          # of a person in one session
  contextTokens: {p50: 6000, p90: 12000}
  contextLimitTokens: 32000
  compactedTokens: 8000
""",
    }
)
_TRIGGERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "chat": 'queuePerReplica: "24"\n        sessionsPerReplica: "40"',
        "code": 'queuePerReplica: "16"\n        tokensPerSecondPerReplica: "$tokens"',
        "agent": 'queuePerReplica: "4"\n        sessionsPerReplica: "$sessions"',
    }
)
_SLOS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "chat": "  firstToken: 2s\n  perOutputToken: 80ms",
        "code": "  firstToken: 2s",
        "agent": "  firstToken: 10s\n  endToEnd: 60s",
    }
)
#: A half of an A100, whole H100s and L40S (which has no MIG). tokens, sessions: what one replica carries there.
GPUS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "a100": {
            "engine": "a100-80-llama-3.1-8b",
            "annotation": "slicewise.dev/profile: 3g.40gb",
            "nodes": "{count: 2, gpu: a100-80, gpusPerNode: 8, mode: mig}",
            "tokens": "4000",
            "sessions": "4",
        },
        "h100": {
            "engine": "h100-80-llama-3.1-8b",
            "annotation": "slicewise.dev/mode: exclusive",
            "nodes": "{count: 2, gpu: h100-80, gpusPerNode: 8, mode: exclusive}",
            "tokens": "12000",
            "sessions": "12",
        },
        "l40s": {
            "engine": "l40s-llama-3.1-8b",
            "annotation": "slicewise.dev/mode: exclusive",
            "nodes": "{count: 4, gpu: l40s, gpusPerNode: 8, mode: exclusive}",
            "tokens": "4000",
            "sessions": "4",
        },
    }
)

_TEXT: Final = Template("""\
# Written by `slicewise sim init $preset --gpu $gpu`; rehearse it with `slicewise sim run FILE`.
name: $preset-$gpu
about: $preset on $gpu, an hour
duration: 1h
${load}engine:
  catalog: $engine
  maxNumSeqs: 64          # vLLM's own options
  maxNumBatchedTokens: 4096
  maxModelLen: 40000
pod:                      # as in your Deployment's template, or its file: pod: deployment.yaml
  metadata:
    namespace: serving
    annotations:
      $annotation
  spec:
    containers:
    - name: engine
      resources:
        limits:
          slicewise.dev/gpu-slice: 1
startReplicas: 2
scaledObject:             # unchanged as you would apply it, or its file: scaledObject: scaledobject.yaml
  apiVersion: keda.sh/v1alpha1
  kind: ScaledObject
  metadata:
    name: $preset
    namespace: serving
  spec:
    scaleTargetRef:
      name: $preset
    pollingInterval: 15
    minReplicaCount: 1
    maxReplicaCount: 16
    advanced:
      horizontalPodAutoscalerConfig:
        behavior:
          scaleUp:
            tolerance: "0"
            stabilizationWindowSeconds: 0
          scaleDown:
            tolerance: "0"
            stabilizationWindowSeconds: 0
    triggers:
    - type: external-push
      metadata:
        scalerAddress: slicewise-scaler.slicewise.svc:9090
        workload: $preset
        policy: composite
        $trigger
        stabilizationDown: 5m
        hpaTolerance: "0"
cluster:
  nodes:
  - $nodes
  terminationGracePeriod: 2m   # as in your pods: a replica that goes has so long for the requests it has
slo:
$slo
""")


def scenario(preset: str, gpu: str) -> str:
    """YAML that can be run as it is. KeyError for names that are not there."""
    hardware = GPUS[gpu]
    trigger = Template(_TRIGGERS[preset]).substitute(hardware)
    return _TEXT.substitute(hardware, preset=preset, gpu=gpu, load=LOADS[preset], trigger=trigger, slo=_SLOS[preset])
