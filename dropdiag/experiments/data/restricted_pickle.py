"""Pickles of arrays and plain containers, read without running anything that they name.

The CIFAR files are pickles, and a pickle may call any function of any module. Here the few names that an array
of bytes needs stand for what is in this file; every other name is refused before it is looked up, and numpy itself
is not called with anything that comes from the file.

Reference: the Python documentation of ``pickle``, "Restricting Globals".
"""

from __future__ import annotations

import math
import reprlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import DataError
from dropdiag.experiments.data.files import shown
from dropdiag.experiments.data.pickle_machine import LongText, Machine, Plain

_NAME, _AXES = 16, 8


class _Type(Plain):
    """Stands for a ``numpy.dtype``: remembers its name. Its state, the byte order and the rest, a byte has not."""

    __slots__ = ("name",)

    def __init__(self, name: str | bytes, *_flags: object) -> None:
        if not isinstance(name, (str, bytes)) or len(name) > _NAME:
            raise ValueError("an array of a type without a name")
        self.name = shown(name.decode("latin1") if isinstance(name, bytes) else name)


class _Array:
    """Stands for a ``numpy.ndarray`` that has no state yet."""


class _Named(Plain):
    """A function, or something that is only named, whose attributes a pickle cannot see."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


def _reconstruct(_kind: object, _shape: object, _typecode: object) -> _Array:
    return _Array()


class _Encoder:
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes into old protocols.

    Parameters
    ----------
    most : int
        Bytes that it encodes in all: a text that is written once may be named, and so encoded, any number of times.
    """

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, (str, LongText)):
            raise ValueError(f"a {type(text).__name__} to be encoded, where a text was expected")
        if encoding != "latin1":
            raise ValueError(f"text in the encoding {reprlib.repr(encoding)}, where bytes were expected")
        self._left -= len(text)
        if self._left < 0:
            raise ValueError("more encoded text than it holds")
        return text.encode() if isinstance(text, LongText) else text.encode("latin1")


def _allowed(most: int) -> dict[tuple[str, str], _Named]:
    """Return the global names that a pickle may use -> what they stand for."""
    return {
        ("numpy.core.multiarray", "_reconstruct"): _Named(_reconstruct),
        ("numpy._core.multiarray", "_reconstruct"): _Named(_reconstruct),
        ("numpy", "ndarray"): _Named(_Array),
        ("numpy", "dtype"): _Named(_Type),
        ("_codecs", "encode"): _Named(_Encoder(most)),
    }


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
        The pickled object; dicts get texts as keys, whether Python 2 or 3 wrote them, and arrays are ndarrays of
        uint8, read-only views of `content`. Other texts that Python 2 wrote are bytes, long ones memoryviews.

    Raises
    ------
    DataError
        If it names anything but arrays and plain containers, is damaged, or is no pickle that a small multiple of
        its size is enough for; see `dropdiag.experiments.data.pickle_machine`.
    """
    allowed = _allowed(len(content))

    def named(module: str, name: str) -> _Named:
        if (module, name) not in allowed:
            raise DataError(
                f"{where}: names {shown(module)}.{shown(name)}, which a data file has no use for; it was refused and "
                f"not run. Only arrays and plain containers are read: fetch the file again from its publisher"
            )
        return allowed[module, name]

    try:
        return Machine(content, named, _built).run()
    except (ValueError, LookupError, TypeError, EOFError, struct.error) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DataError(f"{where}: is damaged, or no pickle of arrays ({reason}); fetch it again") from error


def _built(made: Any, state: Any) -> Any:
    if isinstance(made, _Type):
        return made
    if isinstance(made, _Array):
        return _values(*state)
    raise ValueError(f"state for a {type(made).__name__}, where only arrays and plain containers were expected")


def _values(_version: object, shape: Any, kind: Any, by_columns: object, content: Any) -> NDArray[np.uint8]:
    if not (isinstance(kind, _Type) and kind.name == "u1" and isinstance(content, (bytes, memoryview))):
        got = kind.name if isinstance(kind, _Type) else type(kind).__name__
        raise ValueError(f"an array of {got}, where one of unsigned bytes was expected")
    if not (isinstance(shape, tuple) and len(shape) <= _AXES and all(isinstance(n, int) and n >= 0 for n in shape)):
        raise ValueError(f"an array of the impossible shape {reprlib.repr(shape)}")
    if math.prod(shape) != len(content):
        raise ValueError(f"an array of shape {shape} that holds {len(content)} bytes")
    flat = np.frombuffer(content, dtype=np.uint8)
    return flat.reshape(shape, order="F" if by_columns else "C")
