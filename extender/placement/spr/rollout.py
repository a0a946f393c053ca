"""GPU work that sampled future pods still fill on a node (compiled)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from extender.placement.spr.jit import compiled
from extender.placement.spr.model import FloatArray, IntArray


class Streams(NamedTuple):
    """Sampled pods for each kind of node, largest GPU request first; stream r of a kind is start[kind, r : r + 2]."""

    start: IntArray  # [kind, streams + 1]
    gpu_milli: npt.NDArray[np.int32]
    gpu_count: npt.NDArray[np.int32]
    cpu_milli: npt.NDArray[np.int32]
    memory_mib: npt.NDArray[np.int32]
    next_smaller: npt.NDArray[np.int32]  # the next position that asks for less per GPU
    cpu_floor: npt.NDArray[np.int32]  # the least CPU that is asked for from here to the stream's end
    memory_floor: npt.NDArray[np.int32]  # and the least memory
    cpu_value: FloatArray  # [1]: milli-GPU per milli-CPU


@compiled
def link_streams(streams: Streams) -> None:
    """Fill `next_smaller`, and the floors, which are the requests before."""
    for kind in range(streams.start.shape[0]):
        for r in range(streams.start.shape[1] - 1):
            begin, end = streams.start[kind, r], streams.start[kind, r + 1]
            for i in range(end - 1, begin - 1, -1):
                after = i + 1
                if after < end:
                    streams.cpu_floor[i] = min(streams.cpu_floor[i], streams.cpu_floor[after])
                    streams.memory_floor[i] = min(streams.memory_floor[i], streams.memory_floor[after])
                while after < end and streams.gpu_milli[after] >= streams.gpu_milli[i]:
                    after = streams.next_smaller[after]
                streams.next_smaller[i] = after


class Free(NamedTuple):
    """What is free on a node: CPU, memory, and the milli of each GPU in descending order."""

    cpu_milli: int
    memory_mib: int
    gpus: IntArray


class Room(NamedTuple):
    """What is free on a node: CPU, memory, whole GPUs, and the free milli of those that are partly used."""

    cpu_milli: int
    memory_mib: int
    whole: int
    partial: IntArray
    partial_count: int


@compiled
def _fullest(partial: IntArray, count: int, milli: int) -> int:
    best, best_free = -1, 1001
    for g in range(count):
        if milli <= partial[g] < best_free:
            best, best_free = g, partial[g]
    return best


@compiled
def _share_gpu(partial: IntArray, count: int, milli: int, gpu: int) -> int:
    """Take a share of a partly used GPU, or of a whole one if `gpu` is -1; how many are partly used then."""
    if gpu >= 0:
        partial[gpu] -= milli
        return count
    partial[count] = 1000 - milli
    return count + 1


@compiled
def _fill_stream(streams: Streams, begin: int, end: int, room: Room) -> float:
    """Value filled by one stream: each pod that fits is taken, one that shares a GPU on the fullest that holds it."""
    cpu_milli, memory_mib, whole, partial, count = room
    filled = 0.0
    i = begin
    while i < end and cpu_milli >= streams.cpu_floor[i] and memory_mib >= streams.memory_floor[i]:
        asked = streams.cpu_milli[i]
        milli = streams.gpu_milli[i]
        if milli == 0:
            if cpu_milli >= asked and memory_mib >= streams.memory_mib[i]:
                cpu_milli -= asked
                memory_mib -= streams.memory_mib[i]
                filled += streams.cpu_value[0] * asked
            i += 1
            continue
        gpu = -1 if milli == 1000 else _fullest(partial, count, milli)
        if gpu < 0 and whole == 0:
            i = streams.next_smaller[i]
            continue
        wanted = streams.gpu_count[i]
        if cpu_milli >= asked and memory_mib >= streams.memory_mib[i] and (gpu >= 0 or whole >= wanted):
            whole -= wanted if gpu < 0 else 0
            if milli < 1000:
                count = _share_gpu(partial, count, milli, gpu)
            cpu_milli -= asked
            memory_mib -= streams.memory_mib[i]
            filled += milli * wanted
        i += 1
    return filled


@compiled
def rollout_milli(streams: Streams, kind: int, free: Free, partial: IntArray) -> float:
    """V(s): mean over the streams of the milli-GPU that they fill; `partial` is scratch."""
    gpus = free.gpus
    whole = 0
    while whole < 8 and gpus[whole] == 1000:
        whole += 1
    used = whole
    while used < 8 and gpus[used] > 0:
        used += 1
    room = Room(free.cpu_milli, free.memory_mib, whole, partial, used - whole)
    stream_count = streams.start.shape[1] - 1
    filled = 0.0
    for r in range(stream_count):
        for g in range(used - whole):
            partial[g] = gpus[whole + g]
        filled += _fill_stream(streams, streams.start[kind, r], streams.start[kind, r + 1], room)
    return float(filled / stream_count)
