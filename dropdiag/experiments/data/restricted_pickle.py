"""Pickles of arrays and plain containers, read without running anything that they name.

The CIFAR files are pickles, and a pickle may call any function of any module. Here the few names that an array
of bytes needs stand for small classes of this file; every other name is refused before it is looked up, and
numpy itself is not called with anything that comes from the file.

Reference: the Python documentation of ``pickle``, "Restricting Globals".
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import DataError


class _Type:
    """Stands for ``numpy.dtype``: remembers its name."""

    def __init__(self, name: str | bytes, *_flags: object) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """Forget the byte order and the rest: a byte has none."""


class _Array:
    """Stands for ``numpy.ndarray``: takes what describes an array and keeps a plain array of bytes."""

    values: NDArray[np.uint8]

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _version, shape, kind, by_columns, content = state
        if not (isinstance(kind, _Type) and kind.name == "u1" and isinstance(content, bytes)):
            raise ValueError(f"an array of {getattr(kind, 'name', kind)!s}, where one of unsigned bytes was expected")
        if not (isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)):
            raise ValueError(f"an array of the impossible shape {shape!r}")
        if math.prod(shape) != len(content):
            raise ValueError(f"an array of shape {shape} that holds {len(content)} bytes")
        flat = np.frombuffer(content, dtype=np.uint8)
        self.values = flat.reshape(shape, order="F" if by_columns else "C")


# A pickle may set attributes of anything it has named (its BUILD instruction), so also of a plain function.
class _Sealed:
    """A function whose attributes a pickle cannot set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise ValueError("state for a function, where only arrays and plain containers were expected")


def _reconstruct(_kind: type, _shape: object, _typecode: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Stand for ``_codecs.encode``, by which Python 3 writes bytes into old protocols."""
    if encoding != "latin1":
        raise ValueError(f"text in the encoding {encoding!r}, where bytes were expected")
    return text.encode("latin1")


ALLOWED: Final[dict[tuple[str, str], Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Sealed(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): _Sealed(_reconstruct),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Sealed(_encode),
}
"""Global names that a pickle may use -> what they stand for."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, where: str) -> None:
        # Python 2 wrote the published files: its texts are bytes, and not all of them are ASCII.
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise DataError(
                f"{self._where}: names {module}.{name}, which a data file has no use for; it was refused and not "
                f"run. Only arrays and plain containers are read: fetch the file again from its publisher"
            )
        return ALLOWED[module, name]


def read_pickle(content: bytes, where: str) -> Any:
    """Read a pickle of uint8 arrays, dicts, lists, texts and numbers.

    Parameters
    ----------
    content : bytes
    where : str
        The file's name, for messages.

    Returns
    -------
    object
        The pickled object; dicts (of dicts) get texts as keys, whether Python 2 or 3 wrote them, and arrays are
        ndarrays of uint8. Other texts that Python 2 wrote are bytes.

    Raises
    ------
    DataError
        If it names anything but arrays and plain containers, or is damaged.
    """
    try:
        return _plain(_Unpickler(content, where).load())
    except DataError:
        raise
    # The unpickler raises nearly anything on damaged input: EOFError, IndexError, UnicodeDecodeError ...
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DataError(f"{where}: is damaged, or no pickle of arrays ({reason}); fetch it again") from error


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, dict):
        return {k.decode("latin1") if isinstance(k, bytes) else k: _plain(v) for k, v in value.items()}
    return value
