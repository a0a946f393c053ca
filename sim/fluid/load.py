"""A load as a fluid: requests and tokens of each second, as running sums."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.fluid.service import TICK_S, Service

FloatArray = NDArray[np.float64]

SHAPE_WINDOW_S: Final = 600
"""Over this time (centred) the shape of requests is averaged: prompt and output tokens of a request in service."""

FULL: Final = 0.85
"""At the busiest 600 s (99.9 % quantile), N replicas are busy to this share: what "a peak of N replicas" means."""


class Load(NamedTuple):
    """Running sums have one entry more than there are seconds: entry s is the sum over the seconds before s.

    `requests`: a second; `work_sum`: replica-seconds of work in a full batch; `prefill_s`, `output_tokens`: of one
    request, by tick.
    """

    requests: FloatArray
    requests_sum: FloatArray
    prompt_tokens_sum: FloatArray
    output_tokens_sum: FloatArray
    work_sum: FloatArray
    prefill_s: FloatArray
    output_tokens: FloatArray

    @property
    def ticks(self) -> int:
        return len(self.prefill_s)


@dataclass(frozen=True, slots=True)
class Counts:
    """Arrivals of each second: `requests`, `prompt_tokens` and `output_tokens`, equally long."""

    requests: FloatArray
    prompt_tokens: FloatArray
    output_tokens: FloatArray

    def times(self, factor: float) -> "Counts":
        """The same load, `factor` times as much of it in every second."""
        return Counts(self.requests * factor, self.prompt_tokens * factor, self.output_tokens * factor)


def running_sum(values: FloatArray) -> FloatArray:
    return np.concatenate(([0.0], np.cumsum(values)))


def work_s(service: Service, prompt_tokens: FloatArray, output_tokens: FloatArray) -> FloatArray:
    """Replica-seconds that these tokens take in a full batch."""
    return prompt_tokens * service.prefill_s + output_tokens * service.decode_s


def load_of(service: Service, counts: Counts) -> Load:
    """Cut to whole ticks. A request has at least one prompt and one output token."""
    seconds = len(counts.requests) // TICK_S * TICK_S
    requests = np.ascontiguousarray(counts.requests[:seconds])
    prompt = np.maximum(counts.prompt_tokens[:seconds], requests)
    output = np.maximum(counts.output_tokens[:seconds], requests)
    sums = running_sum(requests), running_sum(prompt), running_sum(output)
    middle = np.arange(0, seconds, TICK_S) + TICK_S // 2
    first = np.clip(middle - SHAPE_WINDOW_S // 2, 0, seconds)
    last = np.clip(middle + SHAPE_WINDOW_S // 2, 0, seconds)
    count, prompts, outputs = (total[last] - total[first] for total in sums)
    seen = count > 1e-9
    everything = max(float(sums[0][-1]), 1e-9)
    prompt_mean = np.where(seen, prompts / np.where(seen, count, 1.0), sums[1][-1] / everything)
    output_mean = np.where(seen, outputs / np.where(seen, count, 1.0), sums[2][-1] / everything)
    return Load(
        requests=requests,
        requests_sum=sums[0],
        prompt_tokens_sum=sums[1],
        output_tokens_sum=sums[2],
        work_sum=running_sum(work_s(service, prompt, output)),
        prefill_s=np.maximum(prompt_mean, 1.0) * service.prefill_s,
        output_tokens=np.maximum(output_mean, 1.0),
    )


def factor_for(peak_replicas: int, work_of_600_s: FloatArray) -> float:
    """How many times a load must be taken so that its busiest 600 s keep `peak_replicas` busy to `FULL`.

    `work_of_600_s`: replicas kept busy on average over each window of 600 s.
    """
    return FULL * peak_replicas / float(np.quantile(work_of_600_s, 0.999))
