"""The instructions of a pickle that write plain containers and call a few named things, carried out with limits.

A pickle is a program for a machine with a stack and a memo. Python's own machine trusts it: 300 bytes can make it ask
for gigabytes (lengths that are announced, places in the memo that are far away), or hash a tuple of tuples for minutes.
This one knows the instructions that arrays and plain containers are written with. Nothing is built but from bytes that
are there, and what holds other things is used once, so that time and memory are a small multiple of a file's size.

Reference: the Python standard library's ``pickletools``, which says what each instruction does.
"""

from __future__ import annotations

import codecs
import io
import re
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from dropdiag.experiments.data.files import CHUNK

STEPS: Final = 1_000_000
"""Instructions that a pickle may have; the largest published file has some 300,000."""

LONG: Final = 1 << 12
"""Strings of so many bytes and more are views of the file: pixels need not be copied."""

_DIGITS, _INTEGER_BYTES, _KEY, _PROTOCOL = 40, 16, 255, 5
_RUN: Final = 256
_STOP: Final = ord(".")
_U1, _U2, _U4, _U8, _I4, _F8 = map(struct.Struct, ("<B", "<H", "<I", "<Q", "<i", ">d"))
_ESCAPES: Final = re.compile(rb"\\(?:[\\'\"nrt]|x[0-9a-fA-F]{2})")


class Plain:
    """Base of what a pickle may name, call, and use any number of times."""

    __slots__ = ()


class LongText(Plain):
    """A text that stays as it is written: bytes that Python 3 wrote into an old protocol, or nothing of use."""

    __slots__ = ("_codec", "_written")

    def __init__(self, written: memoryview, codec: str) -> None:
        self._written, self._codec = written, codec

    def __len__(self) -> int:
        return len(self._written)

    def encode(self) -> bytes:
        """Return the bytes that its signs are in Latin-1, without a copy of it, which may need four times as much."""
        decode, encoded = codecs.getincrementaldecoder(self._codec)().decode, io.BytesIO()
        for begin in range(0, len(self._written), CHUNK):
            encoded.write(decode(self._written[begin : begin + CHUNK]).encode("latin1"))
        encoded.write(decode(b"", final=True).encode("latin1"))
        return encoded.getvalue()


class Machine:
    """Carries out one pickle.

    Parameters
    ----------
    content : bytes
    named : callable
        Module and name -> what a pickle means by it, a `Plain`; raises where it may not mean anything.
    build : callable
        What was made and its state -> what it then is; raises where it has none.

    Notes
    -----
    Whatever is wrong with a pickle is a ValueError, LookupError, TypeError, EOFError or struct.error.
    """

    def __init__(self, content: bytes, named: Callable[[str, str], Any], build: Callable[[Any, Any], Any]) -> None:
        self._content, self._view = content, memoryview(content)
        self._named, self._build = named, build
        self._at = self._steps = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Return what the pickle makes."""
        content, does = self._content, _DOES
        while self._steps < STEPS:
            code = content[self._at]
            self._at += 1
            self._steps += 1
            if code == _STOP:
                (result,) = self._stack
                return result
            if (act := does.get(code)) is None:
                raise ValueError(f"the instruction {bytes([code])!r}, with which no arrays and containers are written")
            act(self)
        raise ValueError(f"more than {STEPS:,} instructions")

    # What is read from the program.

    def bytes_(self, count: int) -> bytes | memoryview:
        """Take the next bytes."""
        begin, self._at = self._at, self._at + count
        if self._at > len(self._content):
            raise EOFError(f"{count:,} bytes are announced, and there are not so many")
        return self._view[begin : self._at] if count >= LONG else self._content[begin : self._at]

    def number(self, form: struct.Struct) -> Any:
        """Take a number of a fixed length."""
        (value,) = form.unpack_from(self._content, self._at)
        self._at += form.size
        return value

    def line(self) -> bytes | memoryview:
        """Take what precedes the next line end, and the line end."""
        line = self.bytes_(self._content.index(b"\n", self._at) - self._at)
        self._at += 1
        return line

    def digits(self) -> str:
        """Take a line that is a number."""
        line = self.line()
        if len(line) > _DIGITS:
            raise ValueError(f"a number of {len(line):,} digits")
        return str(line, "ascii")

    # The stack.

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self._stack.append(value)

    def pop(self, count: int) -> list[Any]:
        """Take values from the top, of which none may lie below the last mark."""
        begin = len(self._stack) - count
        if begin < (self._marks[-1] if self._marks else 0):
            raise IndexError("an instruction lacks what it is for")
        taken = self._stack[begin:]
        del self._stack[begin:]
        return taken

    def top(self) -> Any:
        """Return the value on top, which lies above the last mark."""
        if len(self._stack) == (self._marks[-1] if self._marks else 0):
            raise IndexError("an instruction lacks what it is for")
        return self._stack[-1]

    def mark(self) -> None:
        """Mark where the items of a container begin."""
        self._marks.append(len(self._stack))

    def since_mark(self) -> list[Any]:
        """Take all values since the last mark, and the mark."""
        begin = self._marks.pop()
        taken = self._stack[begin:]
        del self._stack[begin:]
        return taken

    # Values.

    def integers(self) -> None:
        """Push a byte, and those that follow: labels are thousands of these instructions in a row."""
        begin = self._at
        codes = self._content[begin + 1 : begin + 2 * _RUN : 2]
        count = 1 + len(codes) - len(codes.lstrip(b"K"))
        values = self._content[begin : begin + 2 * count : 2]
        if len(values) < count:
            raise EOFError("it ends inside a number")
        self._stack.extend(values)
        self._at += 2 * count - 1
        self._steps += count - 1

    # The next two are the names of images, tens of thousands in a file.

    def short_string(self) -> None:
        """Push a string of up to 255 bytes."""
        begin = self._at + 1
        self._at = begin + self._content[begin - 1]
        if self._at > len(self._content):
            raise EOFError("it ends inside a string")
        self._stack.append(self._content[begin : self._at])

    def long_put(self) -> None:
        """Remember the value on top, in a place of four bytes."""
        self._at += 4
        self.put(int.from_bytes(self._content[self._at - 4 : self._at], "little"))

    def long(self) -> None:
        """Push an integer of some bytes."""
        count = self.number(_U1)
        if count > _INTEGER_BYTES:
            raise ValueError(f"a number of {count} bytes")
        self.push(int.from_bytes(self.bytes_(count), "little", signed=True))

    def decimal(self) -> None:
        """Push an integer that is written out, or a truth value in the oldest form."""
        digits = self.digits()
        self.push(digits == "01" if digits in ("00", "01") else int(digits.removesuffix("L")))

    def text(self, form: struct.Struct) -> None:
        """Push a text in UTF-8."""
        written = self.bytes_(self.number(form))
        self.push(LongText(written, "utf-8") if isinstance(written, memoryview) else written.decode())

    def quoted(self) -> None:
        """Push a string in quotes."""
        line = self.line()
        if isinstance(line, memoryview):
            raise ValueError(f"a string of {len(line):,} signs in quotes, as protocol 0 has them; write protocol 2")
        line = line.strip()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise ValueError("a string without quotes")
        if b"\\" in _ESCAPES.sub(b"", line):
            raise ValueError("a string with an escape that is none")
        self.push(codecs.escape_decode(line[1:-1])[0])

    def escaped(self) -> None:
        """Push a text that is written with escapes."""
        line = self.line()
        codec = "raw-unicode-escape"
        self.push(LongText(line, codec) if isinstance(line, memoryview) else line.decode(codec))

    # Containers.

    def container(self, kind: type) -> Any:
        """Return the container on top."""
        top = self.top()
        if type(top) is not kind:
            raise ValueError(f"items for a {type(top).__name__}, where a {kind.__name__} was expected")
        return top

    def extend(self, items: list[Any]) -> None:
        """Put items into the list on top."""
        self.container(list).extend(items)

    def dict_(self) -> None:
        """Push a dict of the keys and values since the last mark."""
        items = self.since_mark()
        self.push({})
        self.fill(items)

    def fill(self, items: list[Any]) -> None:
        """Put keys and values into the dict on top."""
        target = self.container(dict)
        if len(items) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    # The memo.

    def put(self, place: int) -> None:
        """Remember the value on top."""
        self._memo[place] = self.top()

    def memoize(self) -> None:
        """Remember the value on top in the next place."""
        self.put(len(self._memo))

    def get(self, place: int) -> None:
        """Push a value that was remembered."""
        found = self._memo[place]
        # Else some bytes would make a list of lists of lists, each of them twice in the next.
        if not isinstance(found, (str, bytes, memoryview, int, float, Plain)):
            raise ValueError(f"a {type(found).__name__} that is used twice")
        self.push(found)

    # What is named.

    def name_(self, module: Any, name: Any) -> None:
        """Push what a name means."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is no text")
        self.push(self._named(module, name))

    def call(self) -> None:
        """Call what is named."""
        function, arguments = self.pop(2)
        if not (isinstance(function, Plain) and callable(function) and isinstance(arguments, tuple)):
            raise ValueError(f"a call of a {type(function).__name__}")
        self.push(function(*arguments))

    def state(self) -> None:
        """Give what was made its state."""
        made, state = self.pop(2)
        self.push(self._build(made, state))

    def protocol(self) -> None:
        """Check the version."""
        if (version := self.number(_U1)) > _PROTOCOL:
            raise ValueError(f"protocol {version}, where {_PROTOCOL} is the last")

    def frame(self) -> None:
        """Check a length that says nothing else."""
        if (length := self.number(_U8)) > len(self._content) - self._at:
            raise EOFError(f"{length:,} bytes are announced, and there are not so many")


def _key(key: Any) -> str:
    # Texts alone: their hashes are salted, while thousands of integers can be chosen to have the same.
    if not isinstance(key, (str, bytes)) or len(key) > _KEY:
        raise ValueError(f"a {type(key).__name__} as a key, where a short text was expected")
    return key.decode("latin1") if isinstance(key, bytes) else key


def _push_bytes(form: struct.Struct, machine: Machine) -> None:
    machine.push(machine.bytes_(machine.number(form)))


def _push_number(form: struct.Struct, machine: Machine) -> None:
    machine.push(machine.number(form))


_INSTRUCTIONS: Final[dict[bytes, Callable[[Machine], None]]] = {
    b"\x80": Machine.protocol,
    b"\x95": Machine.frame,
    b"(": Machine.mark,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": Machine.integers,
    b"M": partial(_push_number, _U2),
    b"J": partial(_push_number, _I4),
    b"G": partial(_push_number, _F8),
    b"I": Machine.decimal,
    b"L": Machine.decimal,
    b"\x8a": Machine.long,
    b"F": lambda m: m.push(float(m.digits())),
    b"U": Machine.short_string,
    b"C": Machine.short_string,
    b"B": partial(_push_bytes, _U4),
    b"T": partial(_push_bytes, _I4),
    b"\x8e": partial(_push_bytes, _U8),
    b"S": Machine.quoted,
    b"\x8c": lambda m: m.text(_U1),
    b"X": lambda m: m.text(_U4),
    b"\x8d": lambda m: m.text(_U8),
    b"V": Machine.escaped,
    b")": lambda m: m.push(()),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": lambda m: m.push(tuple(m.pop(1))),
    b"\x86": lambda m: m.push(tuple(m.pop(2))),
    b"\x87": lambda m: m.push(tuple(m.pop(3))),
    b"l": lambda m: m.push(m.since_mark()),
    b"d": lambda m: m.dict_(),
    b"a": lambda m: m.extend(m.pop(1)),
    b"e": lambda m: m.extend(m.since_mark()),
    b"s": lambda m: m.fill(m.pop(2)),
    b"u": lambda m: m.fill(m.since_mark()),
    b"q": lambda m: m.put(m.number(_U1)),
    b"r": Machine.long_put,
    b"p": lambda m: m.put(int(m.digits())),
    b"\x94": Machine.memoize,
    b"h": lambda m: m.get(m.number(_U1)),
    b"j": lambda m: m.get(m.number(_U4)),
    b"g": lambda m: m.get(int(m.digits())),
    b"c": lambda m: m.name_(str(m.line(), "latin1"), str(m.line(), "latin1")),
    b"\x93": lambda m: m.name_(*m.pop(2)),
    b"R": Machine.call,
    b"b": Machine.state,
}
_DOES: Final = {code[0]: act for code, act in _INSTRUCTIONS.items()}
"""Code of each instruction that is known -> what it does."""
