"""Which images each node has, as its kubelet lists them: an array, so that one is looked for on all nodes at once.

A kubelet lists 50 images unless told otherwise (nodeStatusMaxImages), the largest first, each with up to five names.
Source: Kubernetes, "Kubelet Configuration (v1beta1)"; kubernetes/kubernetes pkg/kubelet/nodestatus/setters.go, Images.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.placement.reuse import canonical

NONE: Final = 0  #: number of no image
MOST_ON_NODE: Final = 256  # a kubelet without a limit may list any number; the others are the small ones
#: Smaller ones are here in no time: the least that kube-scheduler's ImageLocality counts.
LEAST_BYTES: Final = 23 << 20
_MOST_FOUND: Final = 256  # images whose nodes are remembered

_Image = tuple[tuple[str, ...], int]  # names, bytes
#: Columns, and the image's bytes on each: the same name may stand for another image.
Found = tuple[NDArray[np.intp], NDArray[np.float64]]


class Images:
    """Mutable; columns are the fleet's. An image is known as long as a node has it."""

    def __init__(self) -> None:
        self._of = np.zeros((0, 0), np.int32)  # (k, n) numbers of the images on each node, NONE where there is none
        self._listed: list[_Image] = [((), 0)]  # by number
        self._nodes: list[int] = [0]  # how many have it, by number
        self._number: dict[_Image, int] = {}
        self._named: dict[str, set[int]] = {}
        self._spare: list[int] = []
        self._found: dict[str, Found] = {}

    def __len__(self) -> int:
        return len(self._number)

    def put(self, column: int, node: Mapping[str, object]) -> None:
        """The images of a Node (its JSON), in place of what was known of it."""
        numbers = np.zeros(MOST_ON_NODE, np.int32)
        count = 0
        for image in _images(node):
            if count == MOST_ON_NODE:
                break
            numbers[count] = self._taken(image)
            count += 1
        self._make_room(count, column + 1)
        before = self._of[:, column]
        new = numbers[: len(self._of)]
        for number in before[before != NONE].tolist():
            self._let_go(number)
        if not np.array_equal(before, new):
            self._found.clear()
            self._of[:, column] = new

    def drop(self, column: int) -> None:
        """The node is gone."""
        self.put(column, {})

    def find(self, name: str) -> Found | None:
        """The nodes that have an image of this whole name; None if none has."""
        numbers = self._named.get(name)
        if numbers is None:
            return None
        found = self._found.get(name)
        if found is None:
            if len(self._found) >= _MOST_FOUND:
                self._found.clear()
            found = self._found[name] = self._look(sorted(numbers))
        return found

    # ---- inside ------------------------------------------------------------------------------------------------

    def _look(self, numbers: list[int]) -> Found:
        size = np.zeros(self._of.shape[1])
        for number in numbers:
            size[(self._of == number).any(axis=0)] = self._listed[number][1]
        columns = np.flatnonzero(size)
        return columns, size[columns]

    def _taken(self, image: _Image) -> int:
        number = self._number.get(image)
        if number is None:
            number = self._spare.pop() if self._spare else len(self._listed)
            if number == len(self._listed):
                self._listed.append(image)
                self._nodes.append(0)
            self._listed[number], self._number[image] = image, number
            for name in set(map(canonical, image[0])):
                self._named.setdefault(name, set()).add(number)
        self._nodes[number] += 1
        return number

    def _let_go(self, number: int) -> None:
        self._nodes[number] -= 1
        if self._nodes[number]:
            return
        image = self._listed[number]
        del self._number[image]
        self._spare.append(number)
        for name in set(map(canonical, image[0])):
            self._named[name].discard(number)
            if not self._named[name]:
                del self._named[name]

    def _make_room(self, rows: int, columns: int) -> None:
        """Columns grow by half, so that a new node costs little."""
        high, wide = self._of.shape
        more = (max(0, rows - high), max(columns - wide, wide // 2) if columns > wide else 0)
        if any(more):
            self._of = np.pad(self._of, ((0, more[0]), (0, more[1])))


def _images(node: Mapping[str, object]) -> Iterator[_Image]:
    """The largest first, as kubelets list them; each once. What cannot be read is passed over: it saves nothing."""
    status = node.get("status")
    listed = status.get("images") if isinstance(status, Mapping) else None
    seen: set[_Image] = set()
    for item in listed if isinstance(listed, list) else ():
        names, size = (item.get("names"), item.get("sizeBytes")) if isinstance(item, Mapping) else (None, None)
        if not isinstance(names, list) or not isinstance(size, int) or size < LEAST_BYTES:
            continue
        image = tuple(name for name in names if isinstance(name, str)), size
        if image[0] and image not in seen:
            seen.add(image)
            yield image
