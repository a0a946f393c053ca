"""What one replica does in a second: an engine with continuous batching, reduced to six numbers."""

from typing import Final, NamedTuple


class Service(NamedTuple):
    """An iteration of a batch of B sequences takes `base_s` + B `per_sequence_s`; a prompt token `prefill_s` more.

    `slots`: sequences at once (vLLM's max_num_seqs); `budget_tokens`: of one iteration (max_num_batched_tokens);
    `kv_tokens`: what the KV cache of a replica holds; `gpus`: a replica's (tensor parallelism).
    """

    base_s: float
    per_sequence_s: float
    prefill_s: float
    slots: float
    budget_tokens: float
    kv_tokens: float
    gpus: float

    @property
    def decode_s(self) -> float:
        """Of one output token in a full batch: what it costs of a replica's time."""
        return (self.base_s + self.per_sequence_s * self.slots) / self.slots


H100_70B_TP4: Final = Service(
    base_s=0.0167,
    per_sequence_s=0.000052,
    prefill_s=0.000063,
    slots=128.0,
    budget_tokens=2048.0,
    kv_tokens=430_000.0,
    gpus=4.0,
)
"""Llama-3.1-70B bf16 on four H100: iteration times fitted to vLLM's published closed-loop measurements.

KV cache: 0.9 x 320 GB less 141 GB of weights, at 80 layers x 8 heads x 128 x 2 x 2 bytes a token.
"""

TTFT_TARGET_S: Final = 2.0
"""Time to first token that is promised. A prompt's own prefill is at most one of the two seconds, so a request is on
time if it is admitted in the second in which it arrives or in the next."""

TICK_S: Final = 15
"""Period of the control plane, in seconds: the HPA's sync period (kube-controller-manager's default). Replicas join and
leave at its multiples alone: between two ticks their number is constant, which the oracle's proof rests on."""

DRAIN_S: Final = 15
"""A replica that was removed is paid for so much longer."""

METRIC_AGE_S: Final = 20
"""What a policy sees is so old: scrape, rule and poll."""
