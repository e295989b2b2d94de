"""Forward passes that run again inside a backward pass, under a reentrant checkpoint."""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from types import FrameType


class Recomputations:
    """Call indices of passes without gradients, kept for the passes inside ``backward`` that repeat them."""

    def __init__(self) -> None:
        self._waiting: defaultdict[tuple[str, int], deque[int]] = defaultdict(deque)
        self._repeated: dict[tuple[str, int], list[int]] = {}

    def clear(self) -> None:
        """Forget the passes of the last step."""
        self._waiting.clear()
        self._repeated.clear()

    def expect(self, layer: str, checkpoint: int, index: int) -> None:
        """Keep the index of a pass that ran without gradients inside a checkpoint."""
        self._waiting[layer, checkpoint].append(index)

    def take(self, layer: str, checkpoint: int) -> int | None:
        """Return the index of the pass that is repeated for the first time, None if there is none."""
        waiting = self._waiting.get((layer, checkpoint))
        if not waiting:
            return None
        index = waiting.popleft()
        self._repeated.setdefault((layer, checkpoint), []).append(index)
        return index

    def once_more(self, layer: str, checkpoint: int) -> list[int]:
        """Return the indices of the passes that were repeated before, of which one comes again."""
        return self._repeated.get((layer, checkpoint), [])

    def missed(self) -> bool:
        """Whether of a checkpoint that was repeated some passes were not seen again."""
        if not self._repeated:
            return False
        repeated = {checkpoint for _, checkpoint in self._repeated}
        return any(waiting and checkpoint in repeated for (_, checkpoint), waiting in self._waiting.items())


def checkpoint_number() -> int:
    """Return a number that identifies the reentrant checkpoint, the same in both of its passes; 0 outside of any."""
    # torch gives no handle to the checkpoint that a pass is part of. Both passes of a reentrant one run inside methods
    # of its autograd function, whose context `ctx` is the same object; non-reentrant ones have no such frame.
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if "ctx" in frame.f_code.co_varnames and frame.f_code.co_filename.endswith("checkpoint.py"):
            return id(frame.f_locals.get("ctx"))
        frame = frame.f_back
    return 0
