"""Numbers and names on their way into the page: a compressed block of arrays, and JSON that no name breaks out of."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.formatting import jsonable

KINDS: Final = {"u1": np.uint8, "u2": np.uint16, "f4": np.float32}


class Blob:
    """Arrays one after another, little-endian, each at a multiple of 8 bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, array: NDArray[Any], kind: str) -> dict[str, Any]:
        """Append an array and return where it is.

        Parameters
        ----------
        array : ndarray, any shape
            Stored in C order.
        kind : {"u1", "u2", "f4"}

        Returns
        -------
        dict
            at (byte offset), n (elements), kind.
        """
        data = np.ascontiguousarray(array, dtype=np.dtype(KINDS[kind]).newbyteorder("<")).tobytes()
        place = {"at": self._size, "n": int(np.size(array)), "kind": kind}
        data += bytes(-len(data) % 8)  # a Float32Array of the page must begin at a multiple of its 4 bytes
        self._parts.append(data)
        self._size += len(data)
        return place

    def text(self) -> str:
        """Return the block as base64 of its zlib stream (RFC 1950, which browsers call "deflate")."""
        return base64.b64encode(zlib.compress(b"".join(self._parts), 6)).decode("ascii")


def read(text: str, place: dict[str, Any]) -> NDArray[Any]:
    """Return an array of a block again.

    Parameters
    ----------
    text : str
        As `Blob.text` gives it.
    place : dict
        As `Blob.add` gives it.
    """
    kind = np.dtype(KINDS[place["kind"]]).newbyteorder("<")
    data = zlib.decompress(base64.b64decode(text))
    return np.frombuffer(data, dtype=kind, count=place["n"], offset=place["at"])


def safe_json(value: Any) -> str:
    r"""Return JSON that may stand inside a ``<script>`` element.

    What could end the element or start another (``<``, ``>``, ``&``) and the two line ends that JavaScript knows
    beside JSON's own are written as ``\uXXXX``; NaN and infinities become null.
    """
    # ensure_ascii would protect as well, but makes names of other scripts unreadable and the page larger
    text = json.dumps(jsonable(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
