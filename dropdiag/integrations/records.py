"""The records of an event file: each with its length and checksums, as TensorBoard reads them.

TensorBoard's own writer takes two milliseconds for the checksum of one histogram, byte by byte in Python, in which no
other thread can work: a training would wait for it. Here the bytes of a record are looked up together.

A CRC is linear: that of a text of equally long parts is the sum (exclusive or) of each part's, moved on by as many zero
bytes as come after it. So all bytes are looked up at once, each in the table of its distance from its part's end, and
parts are then joined two and two.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL: Final = 0x82F63B78  # CRC-32C (Castagnoli), bits reflected
ONES: Final = 0xFFFFFFFF
PART: Final = 64
"""Bytes of a part."""
SHORT: Final = 400
"""Fewer bytes are quicker taken one by one."""
Words = NDArray[np.uint32]


def record(content: bytes) -> bytes:
    """Return a record: its length and content, each with its masked checksum."""
    length = struct.pack("<Q", len(content))
    return b"".join((length, struct.pack("<I", masked(crc32c(length))), content,
                     struct.pack("<I", masked(crc32c(content)))))  # fmt: skip


def masked(crc: int) -> int:
    """Return a checksum as records have it, so that one of a record that holds checksums is no trivial one."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & ONES


def crc32c(content: bytes) -> int:
    """Return the CRC-32C of some bytes."""
    if len(content) < SHORT:
        crc, table = ONES, _byte_by_byte()
        for byte in content:
            crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
        return crc ^ ONES
    parts = 1 << max(-(-len(content) // PART) - 1, 0).bit_length()
    padded = np.zeros(parts * PART, np.uint8)  # zeros before all others change nothing
    padded[-len(content) :] = np.frombuffer(content, np.uint8)
    first = len(padded) - len(content)
    padded[first : first + 4] ^= 0xFF  # as beginning with ones does
    of_parts: Words = np.bitwise_xor.reduce(_distances()[np.arange(PART), padded.reshape(parts, PART)], axis=1)
    level = 0
    while len(of_parts) > 1:
        of_parts = _moved(of_parts[0::2], _zeros(level)) ^ of_parts[1::2]
        level += 1
    return int(of_parts[0]) ^ ONES


def _moved(crc: Words, by: Words) -> Words:
    """Return checksums after zero bytes, by the tables of their four bytes."""
    moved: Words = by[0, crc & 0xFF] ^ by[1, crc >> 8 & 0xFF] ^ by[2, crc >> 16 & 0xFF] ^ by[3, crc >> 24]
    return moved


@cache
def _table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


@cache
def _byte_by_byte() -> list[int]:
    values: list[Any] = _table().tolist()
    return values


@cache
def _distances() -> Words:
    """Table of each byte of a part, by its place: what it is worth at the part's end."""
    tables = [_table()]
    for _ in range(PART - 1):
        tables.append(_after_a_zero(tables[-1]))
    return np.stack(tables[::-1])


@cache
def _zeros(level: int) -> Words:
    """Tables that move a checksum on by ``PART * 2**level`` zero bytes, one for each of its bytes."""
    if level:
        before = _zeros(level - 1)
        return np.stack([_moved(one, before) for one in before])
    moved = np.stack([np.arange(256, dtype=np.uint32) << np.uint32(8 * place) for place in range(4)])
    for _ in range(PART):
        moved = _after_a_zero(moved)
    return moved


def _after_a_zero(crc: Words) -> Words:
    after: Words = crc >> np.uint32(8) ^ _table()[crc & np.uint32(0xFF)]
    return after
