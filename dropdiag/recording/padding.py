"""Where padding was left out, and where it was counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from torch import Tensor

from dropdiag.recording.calls import Call


class PaddingLog:
    """How many passes through a layer had a padding mask that fitted, and how many one that did not."""

    def __init__(self) -> None:
        self._fitted: defaultdict[str, Counter[bool]] = defaultdict(Counter)

    def note(self, call: Call, tensor: Tensor) -> None:
        """Note whether the padding of a tensor is left out, if it has any."""
        fits, mask = call.padded(tensor), call.mask
        # Without a dimension of tokens (a pooled sequence) there is no padding to speak of.
        if fits or tensor.ndim > 2 or mask is None or tensor.shape[:1] != mask.shape[:1]:
            self._fitted[call.info.site.layer][fits] += 1

    def word(self, layer: str, passes: Mapping[tuple[str, int], int]) -> str | None:
        """Return what became of a layer's padding, None where no mask was given.

        Parameters
        ----------
        layer : str
        passes : mapping
            Recorded passes by (layer, call index).
        """
        if layer not in self._fitted:
            return None
        left_out = self._fitted[layer][True]
        total = sum(times for (name, _), times in passes.items() if name == layer)
        if left_out and left_out < total:
            return f"padding left out of {left_out} in {total} passes"
        return "padding left out" if left_out else "padding counted"
