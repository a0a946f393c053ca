"""`python -m bench.gpu.decoder MODEL`: a process that repeats one step of an engine on the GPU. Wants PyTorch.

A decoder of random weights in Llama's shapes; what it computes is nonsense, how long that takes is not. Each line of
stdin is a case as JSON; when its step is captured as a CUDA graph, `ready` is written, and the next line says for how
many seconds to repeat it. Then the steps' milliseconds are written, as a JSON list.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Model:
    """Shapes as in the models' `config.json` on Hugging Face."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int = 128_256


MODELS: Final = {
    "1b": Model(16, 2048, 8192, 32, 8, 64),  # meta-llama/Llama-3.2-1B
    "8b": Model(32, 4096, 14_336, 32, 8, 128),  # meta-llama/Llama-3.1-8B
}


def random(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_(0, 0.02)


class Decoder:
    def __init__(self, model: Model) -> None:
        m = self.m = model
        self.sizes = [m.heads * m.head_dim, m.kv_heads * m.head_dim, m.kv_heads * m.head_dim]
        self.weights = [
            (
                random(m.hidden, sum(self.sizes)),
                random(self.sizes[0], m.hidden),
                random(m.hidden, 2 * m.ffn),
                random(m.ffn, m.hidden),
            )
            for _ in range(m.layers)
        ]
        self.head = random(m.hidden, m.vocab)

    def caches(self, batch: int, context: int) -> list[Tensor]:
        """Keys and values of `batch` sequences, by layer; empty for a prompt that begins."""
        return [random(2, batch, self.m.kv_heads, context, self.m.head_dim) for _ in range(self.m.layers)]

    def forward(self, x: Tensor, caches: Sequence[Tensor]) -> Tensor:
        """Logits of the next tokens: of all of `x` (tokens x hidden) that decode, of the last one of a prompt."""
        shape, decodes = (self.m.hidden,), bool(caches[0].numel())
        for (qkv, out, up, down), cache in zip(self.weights, caches, strict=True):
            q, k, v = (functional.rms_norm(x, shape) @ qkv).split(self.sizes, dim=-1)
            attended = self._decoded(q, k, v, cache) if decodes else self._prefilled(q, k, v)
            x = x + attended.reshape(len(x), -1) @ out
            gate, value = (functional.rms_norm(x, shape) @ up).chunk(2, dim=-1)
            x = x + (functional.silu(gate) * value) @ down
        return (x if decodes else x[-1:]) @ self.head

    def _decoded(self, q: Tensor, k: Tensor, v: Tensor, cache: Tensor) -> Tensor:
        m, batch = self.m, len(q)
        cache[0, :, :, -1] = k.view(batch, m.kv_heads, m.head_dim)
        cache[1, :, :, -1] = v.view(batch, m.kv_heads, m.head_dim)
        grouped = q.view(batch, m.kv_heads, m.heads // m.kv_heads, m.head_dim)
        return (grouped @ cache[0].transpose(-1, -2) * m.head_dim**-0.5).softmax(-1) @ cache[1]

    def _prefilled(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.view(1, len(t), -1, self.m.head_dim).transpose(1, 2) for t in (q, k, v))
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)


def captured(decoder: Decoder, x: Tensor, caches: Sequence[Tensor]) -> torch.cuda.CUDAGraph:
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # cuBLAS makes its workspaces on the first calls, which must not be captured
        decoder.forward(x, caches)
        decoder.forward(x, caches)
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        decoder.forward(x, caches)
    torch.cuda.synchronize()
    return graph


def repeated(graph: torch.cuda.CUDAGraph, seconds: float, gap_s: float) -> list[float]:
    """Milliseconds of each step."""
    steps, until = list[float](), time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        graph.replay()
        torch.cuda.synchronize()
        steps.append(1e3 * (time.monotonic() - begun))
        time.sleep(gap_s)
    return steps


def main() -> None:
    torch.set_grad_enabled(False)
    decoder = Decoder(MODELS[sys.argv[1]])
    for line in sys.stdin:
        case = json.loads(line)
        caches = decoder.caches(case["batch"], case["context"])
        graph = captured(decoder, random(case["prefill"] or case["batch"], decoder.m.hidden), caches)
        print("ready", flush=True)
        print(json.dumps(repeated(graph, float(sys.stdin.readline()), case["gap_ms"] / 1e3)), flush=True)
        del graph, caches
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
