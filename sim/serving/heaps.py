"""Compiled orders: a binary heap of (time, row), and a tournament tree whose root is the least of its leaves."""

from sim.serving.jit import compiled, entry
from sim.serving.state import I64


@compiled
def push(times: I64, rows: I64, size: int, time_ps: int, row: int) -> None:
    i = size
    while i > 0:
        parent = (i - 1) // 2
        if times[parent] < time_ps or (times[parent] == time_ps and rows[parent] < row):
            break
        times[i], rows[i] = times[parent], rows[parent]
        i = parent
    times[i], rows[i] = time_ps, row


@compiled
def pop(times: I64, rows: I64, size: int) -> None:
    """Removes the first."""
    last = size - 1
    time_ps, row = times[last], rows[last]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= last:
            break
        right = child + 1
        if right < last and (times[right], rows[right]) < (times[child], rows[child]):
            child = right
        if (time_ps, row) < (times[child], rows[child]):
            break
        times[i], rows[i] = times[child], rows[child]
        i = child
    times[i], rows[i] = time_ps, row


@entry
def update(tree: I64, leaf: int, value: int) -> None:
    """`tree[1]` is the least of the leaves, which are its second half; its length is a power of two."""
    i = len(tree) // 2 + leaf
    tree[i] = value
    while i > 1:
        i //= 2
        least = min(tree[2 * i], tree[2 * i + 1])
        if tree[i] == least:
            break
        tree[i] = least


@compiled
def lowest(tree: I64) -> int:
    """The first leaf that has the least value."""
    half = len(tree) // 2
    i = 1
    while i < half:
        i = 2 * i if tree[2 * i] <= tree[2 * i + 1] else 2 * i + 1
    return i - half
