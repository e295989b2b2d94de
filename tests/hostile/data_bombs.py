"""Small files that ask for much: each is put in the place of a good one, and has to be refused at once."""

from __future__ import annotations

import gzip
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from tests.hostile.data_folders import READERS, idx, mat, tar, whole

FAR = (1 << 62) - 1


@cache
def zeros_piece() -> bytes:
    """16 MB of zeros, deflated so that pieces can follow each other."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)


def deflated(begin: bytes, pieces: int = 275) -> bytes:
    """Deflated data of `begin` and then 4.4 GB of zeros, without an end."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return packer.compress(begin) + packer.flush(zlib.Z_FULL_FLUSH) + zeros_piece() * pieces


def gzip_bomb(begin: bytes = b"") -> bytes:
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + deflated(begin)


def mat_head(name: bytes, shape: tuple[int, ...], kind: int = 9) -> bytes:
    axes = struct.pack(f"<{len(shape)}I", *(n & 0xFFFFFFFF for n in shape))
    return (
        struct.pack("<IIII", 6, 8, kind, 0)
        + struct.pack("<II", 5, len(axes)) + axes + bytes(-len(axes) % 8)
        + struct.pack("<II", 1, len(name)) + name + bytes(-len(name) % 8)
    )  # fmt: skip


def mat_variable(name: bytes, shape: tuple[int, ...], length: int, *, bomb: bool = False, kind: int = 9) -> bytes:
    inner = mat_head(name, shape, kind) + struct.pack("<II", 2, length)
    matrix = struct.pack("<II", 14, (len(inner) + length) & 0xFFFFFFFF) + inner
    if not bomb:
        return matrix
    packed = b"\x78\x9c" + deflated(matrix)
    return struct.pack("<II", 15, len(packed)) + packed


def mat_file(*variables: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(variables)


def nested(opening: bytes, count: int) -> bytes:
    return b"\x80\x02" + opening * count + b"."


def shared(container: bytes, levels: int = 60) -> bytes:
    """A container that holds one twice that holds one twice ..., as a key of a dict at last."""
    content = b"\x80\x02}N\x85q\x00"
    for level in range(levels):
        content += container.replace(b"#", bytes([level])) + b"q" + bytes([level + 1])
    return content + b"Ns."


def colliding() -> bytes:
    modulus = (1 << 61) - 1
    keys = b"".join(b"\x8a\x0b" + (modulus * n).to_bytes(11, "little") + b"N" for n in range(1, 60_000))
    return b"\x80\x02}(" + keys + b"u."


def encoded(size: int = 1 << 20, times: int = 20_000) -> bytes:
    text = b"X" + struct.pack("<I", size) + b"a" * size + b"q\x01"
    return (
        b"\x80\x02(c_codecs\nencode\nq\x00" + text + b"X\x06\0\0\0latin1q\x020" + b"h\x00h\x01h\x02\x86R" * times + b"."
    )


def named_long(times: int = 20_000) -> bytes:
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x01"
    return b"\x80\x02(cnumpy\ndtype\nq\x00" + text + b"h\x00h\x01\x85R" * times + b"."


PICKLES = {
    "a place in the memo that is far away": b"\x80\x02]r\xff\xff\xff\x7f.",
    "bytes of an announced length": b"\x80\x04\x8e" + struct.pack("<Q", FAR) + b"x.",
    "text of an announced length": b"\x80\x04\x8d" + struct.pack("<Q", FAR) + b"x.",
    "an array of an announced length": b"\x80\x05\x96" + struct.pack("<Q", FAR) + b"x.",
    "a frame of an announced length": b"\x80\x04\x95" + struct.pack("<Q", FAR) + b"N.",
    "a negative length": b"\x80\x02T\xff\xff\xff\xff.",
    "an integer of an announced length": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "an integer of many digits": b"L" + b"9" * 300_000 + b"L\n.",
    "tuples that hold one twice": shared(b"h#h#\x86"),
    "lists that hold one twice": shared(b"](h#h#e"),
    "dicts that hold one twice": shared(b"}(U\x01ah#U\x01bh#u"),
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "tuples in tuples": b"\x80\x02N" + b"\x85" * 500_000 + b".",
    "lists in lists": nested(b"](", 400_000),
    "a million empty dicts": nested(b"}", 999_000),
    "more instructions than a file has": nested(b"N", 3_000_000),
    "keys with the same hash": colliding(),
    "a text that is encoded again and again": encoded(),
    "a name of a type that is read again and again": named_long(),
    "a text of wide signs": b"\x80\x02X" + struct.pack("<I", 60_000_004) + b"a" * 60_000_000 + "🦊".encode() + b".",
    "copies of the top": b"\x80\x02]" + b"2" * 300_000 + b".",
    "escapes of a terminal in a name": b"cos\x1b[2J\x1b]0;owned\x07\nsystem\n(tR.",
    "a name of a megabyte": b"c" + b"m" * (1 << 20) + b"\nn\n.",
    "a persistent name": b"\x80\x02N\x51.",
    "an extension": b"\x80\x02\x82\x01.",
    "an object of a class": b"\x80\x02c__builtin__\nobject\n)\x81.",
    "an instance": b"(i__builtin__\nobject\n.",
    "a key that is an array": pickle.dumps({(1, 2): 3}, protocol=2),
    "an escape that is none": b"S'\\z'\n.",
    "an array of a shape of a million axes": b"\x80\x02cnumpy\ncore\n.",
}


def put(content: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content())


def sparse(size: int) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return write


def bound(path: Path) -> None:
    """A socket: its path must be short, so it is bound where it is by the descriptor of its folder."""
    place = os.getcwd()  # noqa: PTH109
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(place)


def in_tar(headers: bytes) -> Callable[[Path], object]:
    return put(lambda: gzip.compress(headers + gzip.decompress(whole("archive")), 1))


def header(name: str, size: int, kind: bytes = b"0") -> bytes:
    block = bytearray(512)
    block[: len(name)] = name.encode()
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[156:157], block[257:265], block[148:156] = kind, b"ustar\x0000", b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


TRAIN = "cifar-100-python/train"
BOMBS: dict[tuple[str, str], Callable[[Path], object]] = {
    **{("cifar pickle", name): put(lambda content=content: content) for name, content in PICKLES.items()},
    ("idx", "4.4 GB without a header"): put(gzip_bomb),
    ("idx", "4.4 GB behind a header of 4 billion images"): put(lambda: gzip_bomb(idx(((1 << 32) - 1, 28, 28), b""))),
    ("idx", "4.4 GB behind a header of as many as may be"): put(lambda: gzip_bomb(idx((300_000, 28, 28), b""))),
    ("idx", "more than a small gzip file can hold"): put(lambda: gzip.compress(idx((300_000, 28, 28), b"x"))),
    ("idx", "2 billion images in a plain file"): put(lambda: idx((1 << 31, 28, 28), b"x")),
    ("idx", "nothing times 4 billion times 4 billion"): put(lambda: idx((0, (1 << 32) - 1, (1 << 32) - 1), b"")),
    ("idx", "a hundred thousand gzip streams of nothing"): put(lambda: gzip.compress(b"") * 100_000),
    ("idx", "a gzip name without an end"): put(lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"n" * (1 << 22)),
    ("cifar binary", "200 MB of zeros and more"): sparse(200 * (1 << 20) + 1),
    ("svhn", "4.4 GB in a variable that nobody asks for"): put(
        lambda: mat_file(mat_variable(b"Z", (1 << 16, 1 << 16), 1 << 31, bomb=True))
    ),
    ("svhn", "4.4 GB as images"): put(
        lambda: mat_file(mat_variable(b"X", (32, 32, 3, 1_390_000), 3072 * 1_390_000, bomb=True))
    ),
    ("svhn", "4.4 GB behind as many images as may be"): put(
        lambda: mat_file(mat_variable(b"X", (32, 32, 3, 80_000), 3072 * 80_000, bomb=True))
    ),
    ("svhn", "4.4 GB as labels"): put(lambda: mat_file(mat_variable(b"y", (1 << 30, 1), 1 << 30, bomb=True))),
    ("svhn", "4.4 GB in place of a head"): put(
        lambda: mat_file(struct.pack("<II", 15, len(packed := b"\x78\x9c" + deflated(b""))) + packed)
    ),
    ("svhn", "2 billion images"): put(lambda: mat_file(mat_variable(b"X", (32, 32, 3, (1 << 31) - 1), 0))),
    ("svhn", "as many images as may be, of which none is there"): put(
        lambda: mat_file(mat_variable(b"X", (32, 32, 3, 80_000), 3072 * 80_000))
    ),
    ("svhn", "images fewer than none"): put(lambda: mat_file(mat_variable(b"X", (32, 32, 3, -1), 8))),
    ("svhn", "a hundred thousand empty variables"): put(lambda: mat_file(struct.pack("<II", 14, 0) * 100_000)),
    ("svhn", "labels beyond all numbers"): put(
        lambda: mat(X=np.zeros((32, 32, 3, 2), np.uint8), y=np.array([np.inf, 1e300]))
    ),
    ("svhn", "complex labels"): put(lambda: mat(X=np.zeros((32, 32, 3, 2), np.uint8), y=np.array([1j, 2]))),
    ("svhn", "cells as labels"): put(
        lambda: mat(X=np.zeros((32, 32, 3, 2), np.uint8), y=np.array([1, "a"], dtype=object))
    ),
    ("svhn", "images twice"): put(lambda: mat_file(*[mat(X=np.zeros((32, 32, 3, 2), np.uint8))[128:]] * 2)),
    ("archive", "4.4 GB without a header"): put(gzip_bomb),
    ("archive", "4.4 GB in a member that nobody asks for"): put(
        lambda: gzip_bomb(header("cifar-100-python/meta", 275 << 24))
    ),
    ("archive", "4.4 GB in a member that is asked for"): put(lambda: gzip_bomb(header(TRAIN, 275 << 24))),
    ("archive", "as much as may be in a member that is asked for"): put(lambda: gzip_bomb(header(TRAIN, 268_000_000))),
    ("archive", "4.4 GB as a long name"): put(lambda: gzip_bomb(header("././@LongLink", 275 << 24, b"L"))),
    ("archive", "4.4 GB as an extended header"): put(lambda: gzip_bomb(header("PaxHeader", 275 << 24, b"x"))),
    ("archive", "4.4 GB behind the end"): put(lambda: gzip_bomb(tar({}))),
    ("archive", "twenty thousand members"): in_tar(header("m", 0) * 20_000),
    ("archive", "a member of 2^80 bytes"): in_tar(header("m", 1 << 80)),
    ("archive", "a sparse member"): in_tar(header(TRAIN, 1, b"S")),
    ("archive", "a hard link in place of a member"): in_tar(header(TRAIN, 0, b"1")),
    ("archive", "a symbolic link in place of a member"): in_tar(header(TRAIN, 0, b"2")),
    ("archive", "a device in place of a member"): in_tar(header(TRAIN, 0, b"3")),
    ("archive", "a pipe in place of a member"): in_tar(header(TRAIN, 0, b"6")),
    ("archive", "a member twice"): in_tar(header(TRAIN, 1) + bytes(512)),
    ("archive", "members by other ways alone"): put(
        lambda: gzip.compress(tar({f"x/../{TRAIN}": b"1", f"/{TRAIN}": b"2", f"../{TRAIN}": b"3"}))
    ),
    ("archive", "no gzip"): put(lambda: gzip.decompress(whole("archive"))),
}
for reader in READERS:
    BOMBS |= {
        (reader, "a pipe"): os.mkfifo,
        (reader, "a socket"): bound,
        (reader, "a device without an end"): lambda path: path.symlink_to("/dev/zero"),
        (reader, "a folder"): lambda path: path.mkdir(),
        (reader, "a link to itself"): lambda path: path.symlink_to(path.name),
        (reader, "a sparse file of 3 GB"): sparse(3 << 30),
        (reader, "nothing"): sparse(0),
    }
