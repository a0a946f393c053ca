"""Work in line and in service, in seconds of one replica: a long prompt is not one request like any other.

prefill: prompt tokens that no cache holds / tokens a second that a replica prefills; decode: tokens still to be
generated / tokens a second that a replica generates. Source of the idea: llm-d token velocity
(llm-d benchmark/token-velocity-autoscaling), there for tokens in flight alone.
"""

from dataclasses import dataclass

from scaler.signals.reading import Missing, Reading, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A request of this workload. Tokens are means; `generation_cv` is the deviation of its length over the mean.

    `cached_share`: of a prompt, what a prefix cache holds; take a low quantile, for after a scale-out caches are cold.
    """

    prompt_tokens: float
    generation_tokens: float
    cached_share: float = 0.0
    generation_cv: float = 1.0

    @property
    def uncached_tokens(self) -> float:
        return self.prompt_tokens * (1 - self.cached_share)

    @property
    def left_tokens(self) -> float:
        """Mean rest of a generation that is met while it runs: longer ones are met more often.

        E[L^2] / 2 E[L], the mean residual life in steady state: Kleinrock, Queueing Systems 1 (1975), section 5.2.
        """
        return self.generation_tokens * (1 + self.generation_cv**2) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What one replica does alone, tokens a second, above 0."""

    prefill_per_s: float
    decode_per_s: float


def token_work_s(waiting: Reading, running: Reading, shape: Shape, pace: Pace) -> Reading:
    """Replica-seconds of the requests that wait (all of their work) and run (their prefill done, the rest expected).

    Missing where neither is known; where one is, of that alone, as a lower bound: `pods` is then 0, which leaves a
    doubt. Law: never falls as more requests wait or run, prompts grow or less is cached.
    """
    known = [reading for reading in (waiting, running) if isinstance(reading, Sample)]
    if not known:
        return Missing("; ".join(r.why for r in (waiting, running) if isinstance(r, Missing)))
    whole_s = shape.uncached_tokens / pace.prefill_per_s + shape.generation_tokens / pace.decode_per_s
    rest_s = shape.left_tokens / pace.decode_per_s
    work_s = sum(
        reading.value * each_s
        for reading, each_s in ((waiting, whole_s), (running, rest_s))
        if isinstance(reading, Sample)
    )
    pods = min((sample.pods for sample in known if sample.pods is not None), default=None)
    return Sample(work_s, min(sample.at_s for sample in known), pods if len(known) == 2 else 0)


def work_done_per_s(prompt_tokens_per_s: float, generation_tokens_per_s: float, pace: Pace) -> float:
    """Replica-seconds of work that are done a second: how many replicas the tokens keep busy."""
    return prompt_tokens_per_s / pace.prefill_per_s + generation_tokens_per_s / pace.decode_per_s


def request_work_s(done_per_s: float, *, ended_per_s: float, running: float, service_s: float | None) -> float | None:
    """Mean replica-seconds of a request: work done a second / requests that this completes a second.

    Those are what ended or, where that is more, running / `service_s` (J. D. C. Little, Operations Research 9 (1961),
    383): as a burst begins much is done and nothing of it has ended. None where neither is known.
    """
    completed_per_s = max(ended_per_s, running / service_s if service_s else 0.0)
    return done_per_s / completed_per_s if completed_per_s > 0 else None


def work_arriving_per_s(done_per_s: float, *, grown_per_s: float, request_s: float) -> float:
    """Replica-seconds of work that arrive a second: what is done, and what the requests that pile up still need.

    `grown_per_s`: requests that arrived less those that ended, a second; `request_s`: work of one of them.
    Conservation: work in the system grows by what arrives and falls by what is done. What is done alone hides the
    demand as soon as all replicas are busy.
    """
    return max(0.0, done_per_s + grown_per_s * request_s)
