"""Sampled streams of the pods that a node of each kind may meet."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from extender.placement.spr.mix import Mix
from extender.placement.spr.model import GPUS_PER_NODE_MAX, FloatArray, IntArray, Nodes
from extender.placement.spr.rollout import Streams, link_streams

STREAMS: Final = 16  # 8 cost .2 points of allocation; 32 and 64 gain nothing
LENGTH: Final = 48  # pods that an 8-GPU node chooses from; 40 to 64 are equal within noise
# A node of n GPUs meets (n / 8) ** .5 of the pods that want GPUs: .02 points more than all of them on most traces.
NODE_SIZE_POWER: Final = 0.5
# Milli-GPU per milli-CPU that CPU-only pods fill: keeps CPU in large pieces and never outbids a GPU. At .01 and .03 the
# allocation falls by .08 and .8 points; at 0, CPU-only pods lose .3 % of the CPU on gpushare100.
CPU_VALUE: Final = 0.003


@dataclass(frozen=True, slots=True)
class NodeKinds:
    """An empty node of each kind: what a pod type may land on."""

    cpu_milli: IntArray
    memory_mib: IntArray  # the most that a node of the kind has
    gpu_count: IntArray


def node_kinds(nodes: Nodes) -> NodeKinds:
    count = int(nodes.kind_id.max()) + 1
    cpu, memory, gpus = np.zeros((3, count), dtype=np.int64)
    cpu[nodes.kind_id], gpus[nodes.kind_id] = nodes.cpu_milli, nodes.gpu_count
    np.maximum.at(memory, nodes.kind_id, nodes.memory_mib)
    return NodeKinds(cpu, memory, gpus)


def _share_hosted(mix: Mix, kinds: NodeKinds) -> FloatArray:
    """[kind, type] the type's share of the pods, 0 where an empty node of the kind does not hold it."""
    holds = (
        (mix.cpu_milli <= kinds.cpu_milli[:, None])
        & (mix.memory_mib <= kinds.memory_mib[:, None])
        & (mix.gpu_count <= kinds.gpu_count[:, None])
        & ((mix.kind_mask >> np.arange(kinds.cpu_milli.size)[:, None]) & 1 == 1)
    )
    return np.where(holds, mix.share, 0.0)


def sample_streams(mix: Mix, kinds: NodeKinds, seed: int) -> Streams:
    """Systematic samples for each kind, shuffled, then sorted by GPU request, largest first; CPU-only pods last.

    Types are sampled in order of their requests, so that similar ones are neighbours: a systematic sample is then a
    stratified one, and a small change of the mix moves few positions. In order of frequency each redraw was a new draw.
    """
    order = np.lexsort((mix.kind_mask, mix.memory_mib, mix.cpu_milli, mix.gpu_milli, mix.gpu_count))
    request = mix.gpu_milli * mix.gpu_count
    # CPU-only pods are met by nodes of any size all the same.
    size = np.where(request[order] > 0, (kinds.gpu_count[:, None] / GPUS_PER_NODE_MAX) ** NODE_SIZE_POWER, 1.0)
    edges = np.cumsum(size * _share_hosted(mix, kinds)[:, order], axis=1)
    shuffle_keys = np.random.default_rng(seed).random((STREAMS, 2 * LENGTH))
    start = np.zeros((kinds.cpu_milli.size, STREAMS + 1), dtype=np.int64)
    chunks: list[IntArray] = []
    total = 0
    for kind, edge in enumerate(edges):
        for r in range(STREAMS):
            start[kind, r] = total
            positions = (np.arange(int(LENGTH * edge[-1] + 1)) + (r + 0.5) / STREAMS) / LENGTH
            types = order[np.searchsorted(edge, positions[positions < edge[-1]], side="right")]
            types = types[np.lexsort((shuffle_keys[r, : types.size], -request[types]))]
            chunks.append(types)
            total += types.size
        start[kind, STREAMS] = total
    return _stream_arrays(mix, np.concatenate(chunks), start)


def _stream_arrays(mix: Mix, types: IntArray, start: IntArray) -> Streams:
    milli, count, cpu, memory = (
        column[types].astype(np.int32) for column in (mix.gpu_milli, mix.gpu_count, mix.cpu_milli, mix.memory_mib)
    )
    next_smaller, cpu_floor, memory_floor = np.zeros(types.size, dtype=np.int32), cpu.copy(), memory.copy()
    streams = Streams(start, milli, count, cpu, memory, next_smaller, cpu_floor, memory_floor, np.array([CPU_VALUE]))
    link_streams(streams)
    return streams
