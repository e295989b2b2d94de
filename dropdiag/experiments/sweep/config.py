"""The config that `train` is called with: a dict that knows which of its keys were read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class Config(dict[str, Any]):
    """A run's condition, seed, axes and settings.

    Reading a key notes it. Going through all keys, as ``{**config}`` and ``dict(config)`` do, notes all of them: what
    becomes of the copy is not known. A Recorder that is given it as ``config=`` notes none.

    Parameters
    ----------
    values : mapping

    Attributes
    ----------
    given : dict
        What it was made of, whatever `train` puts into it.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.given = dict(values)
        self._read: set[str] = set()

    def unread(self, keys: Iterable[str]) -> list[str]:
        """Return those of the keys that nobody has read."""
        return [key for key in keys if key not in self._read]

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value; the default where there is none."""
        self._read.add(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """Take a value out."""
        self._read.add(key)
        return super().pop(key, *default)

    def __iter__(self) -> Iterator[str]:
        self._read.update(self.given)
        return super().__iter__()

    def keys(self) -> Any:
        """Return the keys."""
        self._read.update(self.given)
        return super().keys()

    def values(self) -> Any:
        """Return the values."""
        self._read.update(self.given)
        return super().values()

    def items(self) -> Any:
        """Return keys and values."""
        self._read.update(self.given)
        return super().items()

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return a value, which is put there where there is none."""
        self._read.add(key)
        return super().setdefault(key, default)

    def copy(self) -> dict[str, Any]:
        """Return a plain dict."""
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __reduce__(self) -> Any:
        return Config, (self.copy(),)
