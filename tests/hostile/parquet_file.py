"""Parquet files taken apart and put together again, so that any field of a header can be another one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

MAGIC = b"PAR1"
BYTE, INTEGERS, DOUBLE, BINARY, LIST, STRUCT = 3, (4, 5, 6), 7, 8, 9, 12
ZSTD = pa.Codec("zstd")

# Fields of the footer, of a row group, of a column, of what is said of it, of a page's header.
SCHEMA, ROWS, GROUPS, KEYS = 2, 3, 4, 5
COLUMNS, GROUP_ROWS = 1, 3
META = 3
PATH, VALUES, COMPRESSED, DATA, DICTIONARY, SIZES = 3, 5, 7, 9, 11, 16
REPETITION = 3
KIND, PAGE_UNCOMPRESSED, PAGE_COMPRESSED, DATA_PAGE, DICTIONARY_PAGE = 1, 2, 3, 5, 7


@dataclass
class Field:
    """A value of Thrift's compact protocol, and of what type it is."""

    kind: int
    value: Any


Fields = dict[int, Field]


@dataclass
class Page:
    """A page of a column: its header, and its bytes, compressed."""

    header: Fields
    body: bytes

    @property
    def counts(self) -> Fields:
        """What the header says of the values."""
        return self.header[DATA_PAGE if DATA_PAGE in self.header else DICTIONARY_PAGE].value

    def raw(self) -> bytes:
        """Return the bytes as they were before they were compressed."""
        return ZSTD.decompress(self.body, self.header[PAGE_UNCOMPRESSED].value).to_pybytes()

    def put(self, raw: bytes) -> None:
        """Put other bytes in their place, and say so in the header."""
        self.body = ZSTD.compress(raw).to_pybytes()
        self.header[PAGE_UNCOMPRESSED].value, self.header[PAGE_COMPRESSED].value = len(raw), len(self.body)


class File:
    """A Parquet file: a footer, and the pages of each column of each row group."""

    def __init__(self, content: bytes) -> None:
        size = int.from_bytes(content[-8:-4], "little")
        self.footer, _ = decoded(content[-8 - size : -8], 0)
        self.chunks = [_pages(content, self.meta(column)) for column in self.columns()]

    @classmethod
    def of(cls, path: Path) -> File:
        """Take a file apart."""
        return cls(path.read_bytes())

    def columns(self) -> list[Fields]:
        """Return what the footer says of each column of each row group."""
        return [column.value for group in self.footer[GROUPS].value for column in group.value[COLUMNS].value]

    @staticmethod
    def meta(column: Fields) -> Fields:
        """Return what is said of its values."""
        found: Fields = column[META].value
        return found

    def named(self, name: str) -> tuple[Fields, list[Page]]:
        """Return the first column of a name, ``bins.list.element`` for one of lists, and its pages."""
        for column, pages in zip(self.columns(), self.chunks, strict=True):
            if ".".join(part.value.decode() for part in self.meta(column)[PATH].value) == name:
                return self.meta(column), pages
        raise LookupError(name)

    def layout(self) -> None:
        """Say in the footer where the pages lie, and how large they are."""
        at = len(MAGIC)
        for column, pages in zip(self.columns(), self.chunks, strict=True):
            meta, begin = self.meta(column), at
            starts: dict[int, int] = {}
            for page in pages:
                starts.setdefault(DICTIONARY if DICTIONARY_PAGE in page.header else DATA, at)
                at += len(encoded(page.header)) + len(page.body)
            for place, start in starts.items():
                meta[place] = Field(6, start)
            meta[COMPRESSED].value = at - begin

    def content(self) -> bytes:
        """Put it together, with what the footer says as it is."""
        body = b"".join(encoded(page.header) + page.body for pages in self.chunks for page in pages)
        footer = encoded(self.footer)
        return MAGIC + body + footer + len(footer).to_bytes(4, "little") + MAGIC

    def write(self, path: Path) -> None:
        """Put it together, the footer made to fit the pages."""
        self.layout()
        path.write_bytes(self.content())


def _pages(content: bytes, meta: Fields) -> list[Page]:
    begin = min(meta[place].value for place in (DATA, DICTIONARY) if place in meta and meta[place].value)
    at, end, found = begin, begin + meta[COMPRESSED].value, list[Page]()
    while at < end:
        header, at = decoded(content, at)
        size = header[PAGE_COMPRESSED].value
        found.append(Page(header, content[at : at + size]))
        at += size
    return found


def decoded(data: bytes, at: int) -> tuple[Fields, int]:
    """Read a structure."""
    found: Fields = {}
    field = 0
    while head := data[at]:
        at += 1
        field += head >> 4
        value, at = _value(data, at, head & 15)
        found[field] = Field(head & 15, value)
    return found, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind in INTEGERS:
        value, at = _number(data, at)
        return (value >> 1) ^ -(value & 1), at
    if kind == BINARY:
        size, at = _number(data, at)
        return data[at : at + size], at + size
    if kind == LIST:
        return _entries(data, at)
    if kind == STRUCT:
        return decoded(data, at)
    size = {BYTE: 1, DOUBLE: 8}[kind]
    return data[at : at + size], at + size


def _entries(data: bytes, at: int) -> tuple[list[Field], int]:
    head, at = data[at], at + 1
    size = head >> 4
    if size == 15:
        size, at = _number(data, at)
    found = []
    for _ in range(size):
        value, at = _value(data, at, head & 15)
        found.append(Field(head & 15, value))
    return found, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def encoded(fields: Fields) -> bytes:
    """Write a structure."""
    parts, before = list[bytes](), 0
    for field in sorted(fields):
        kind = fields[field].kind
        if kind in (1, 2):
            kind = 1 if fields[field].value else 2
        head = bytes([((field - before) << 4) | kind]) if field - before < 16 else bytes([kind]) + varint(field << 1)
        parts += [head, _bytes(fields[field])]
        before = field
    return b"".join([*parts, b"\0"])


def _bytes(field: Field) -> bytes:
    kind, value = field.kind, field.value
    if kind in (1, 2):
        return b""
    if kind in INTEGERS:
        return varint((value << 1) ^ (value >> 63) & (1 << 64) - 1 if value < 0 else value << 1)
    if kind == BINARY:
        return varint(len(value)) + value
    if kind == STRUCT:
        return encoded(value)
    if kind == LIST:
        of = value[0].kind if value else STRUCT
        head = bytes([(len(value) << 4) | of]) if len(value) < 15 else bytes([0xF0 | of]) + varint(len(value))
        return head + b"".join(map(_bytes, value))
    return bytes(value)


def varint(value: int) -> bytes:
    """Write a number, seven bits a byte."""
    value &= (1 << 64) - 1
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
