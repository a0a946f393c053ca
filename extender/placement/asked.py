"""Which pods have asked for a place: each is counted once."""

from typing import Final

#: The oldest is forgotten; should it ask again, it counts again.
MOST: Final = 1 << 16


class Asked:
    """Mutable; owned by the ledger."""

    def __init__(self) -> None:
        self._uids: dict[str, None] = {}  # the one that asked last stands last

    def add(self, uid: str) -> bool:
        """A pod asks, or is found with a place. Whether it is the first time."""
        new = uid not in self._uids
        self._uids.pop(uid, None)
        self._uids[uid] = None
        if len(self._uids) > MOST:
            del self._uids[next(iter(self._uids))]
        return new
