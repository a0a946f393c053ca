"""Compiled orders: the heap of later turns by (time, row), and trees whose root is the least of their leaves."""

from sim.serving import state as s
from sim.serving.jit import compiled, entry
from sim.serving.state import State


@compiled
def push(st: State, time_ps: int, row: int) -> None:
    i = st.now[s.LATER]
    st.now[s.LATER] = i + 1
    while i > 0:
        parent = (i - 1) // 2
        parent_ps = st.session[parent, s.HEAP_PS]
        if parent_ps < time_ps or (parent_ps == time_ps and st.session[parent, s.HEAP_ROW] < row):
            break
        st.session[i, s.HEAP_PS] = parent_ps
        st.session[i, s.HEAP_ROW] = st.session[parent, s.HEAP_ROW]
        i = parent
    st.session[i, s.HEAP_PS] = time_ps
    st.session[i, s.HEAP_ROW] = row


@compiled
def pop(st: State) -> int:
    """Takes the first out, and answers its row."""
    first = st.session[0, s.HEAP_ROW]
    last = st.now[s.LATER] - 1
    st.now[s.LATER] = last
    time_ps, row = st.session[last, s.HEAP_PS], st.session[last, s.HEAP_ROW]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= last:
            break
        if child + 1 < last and before(st, child + 1, st.session[child, s.HEAP_PS], st.session[child, s.HEAP_ROW]):
            child += 1
        if not before(st, child, time_ps, row):
            break
        st.session[i, s.HEAP_PS] = st.session[child, s.HEAP_PS]
        st.session[i, s.HEAP_ROW] = st.session[child, s.HEAP_ROW]
        i = child
    st.session[i, s.HEAP_PS] = time_ps
    st.session[i, s.HEAP_ROW] = row
    return int(first)


@compiled
def before(st: State, i: int, time_ps: int, row: int) -> bool:
    i_ps = st.session[i, s.HEAP_PS]
    return bool(i_ps < time_ps or (i_ps == time_ps and st.session[i, s.HEAP_ROW] < row))


@entry
def update(tree: s.I64, which: int, leaf: int, value: int) -> None:
    """`tree[which, 1]` is the least of the leaves, the second half of the row; its length is a power of two."""
    i = tree.shape[1] // 2 + leaf
    tree[which, i] = value
    while i > 1:
        i //= 2
        least = min(tree[which, 2 * i], tree[which, 2 * i + 1])
        if tree[which, i] == least:
            break
        tree[which, i] = least


@compiled
def lowest(tree: s.I64, which: int) -> int:
    """The first leaf that has the least value."""
    half = tree.shape[1] // 2
    i = 1
    while i < half:
        i = 2 * i if tree[which, 2 * i] <= tree[which, 2 * i + 1] else 2 * i + 1
    return int(i - half)
