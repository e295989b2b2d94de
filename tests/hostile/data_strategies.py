"""Files that are nearly those of a data set: built of the parts that a format has, with wrong ones among them."""

from __future__ import annotations

import functools
import gzip
import pickletools
import struct
import zlib

from hypothesis import strategies as st

from tests.hostile.data_folders import idx, whole

SMALL = st.binary(max_size=40)
COUNTS = st.one_of(
    st.integers(0, 5),
    st.sampled_from([28, 32, 127, 128, 255, 256, 512, 3072, 65535, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]),
    st.integers(0, (1 << 32) - 1),
)
LENGTHS = st.one_of(COUNTS, st.sampled_from([1 << 40, (1 << 62) - 1, (1 << 63) - 1, (1 << 64) - 1]))


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """A file with some bytes changed, left out, put in or repeated."""
    content = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        change = draw(st.integers(0, 5))
        if change == 0 and content:
            content[at] = draw(st.integers(0, 255))
        elif change == 1 and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif change == 2:
            del content[at : at + draw(st.integers(1, 40))]
        elif change == 3:
            content[at:at] = draw(SMALL)
        elif change == 4:
            content[at : at + 4] = struct.pack(draw(st.sampled_from("<>")) + "I", draw(COUNTS))
        else:
            del content[at:]
    return bytes(content)


@st.composite
def gzipped(draw, content: bytes) -> bytes:
    """A file in gzip, once or in two streams, with or without something behind it."""
    content = bytes(content)
    if not draw(st.booleans()):
        packed = gzip.compress(content, 1)
    else:
        at = draw(st.integers(0, len(content)))
        packed = gzip.compress(content[:at], 1) + gzip.compress(content[at:], 0)
    packed += draw(st.sampled_from([b"", b"", bytes(9), b"x", b"\x1f\x8b"]))
    return draw(damaged(packed)) if draw(st.booleans()) else packed


@st.composite
def idx_files(draw) -> bytes:
    if draw(st.integers(0, 2)) == 0:
        content = draw(damaged(whole("idx")))
        return draw(st.one_of(st.just(content), gzipped(content)))
    shape = tuple(draw(st.lists(COUNTS, min_size=0, max_size=4)))
    if draw(st.booleans()):
        shape = (draw(COUNTS), 28, 28)
    values = draw(st.one_of(SMALL, st.integers(0, 5).map(lambda n: bytes(784 * n))))
    content = draw(damaged(idx(shape, values, draw(st.sampled_from([8, 8, 8, 9, 13, 0])))))
    return draw(st.one_of(st.just(content), gzipped(content)))


@st.composite
def cifar_binary_files(draw) -> bytes:
    records = draw(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 110)), max_size=4))
    content = b"".join(bytes(labels) + bytes(3072) for labels in records)
    return draw(damaged(draw(st.sampled_from([content, whole("cifar binary")]))))


NAMES = st.sampled_from(
    ["numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"] * 3
    + ["_codecs encode", "builtins getattr", "os system", "numpy load", "\x1b[2J \x07"]
)
LINES = {
    "decimalnl_short": st.sampled_from([b"0", b"1", b"00", b"01", b"7", b"9" * 5000, b"x", b"", b"1_0"]),
    "decimalnl_long": st.sampled_from([b"0L", b"7", b"9" * 5000 + b"L", b"L"]),
    "floatnl": st.sampled_from([b"1.5", b"nan", b"1e999", b"x"]),
    "stringnl": st.sampled_from([b"'a'", b"'data'", b"'\\x41'", b"'\\", b"'\\z'", b"a", b'"b"']),
    "stringnl_noescape": st.sampled_from([b"1", b"a"]),
    "unicodestringnl": st.sampled_from([b"data", b"fine_labels", b"\\u0041", b"\\U0010ffff", b"\\u12", b"\xff"]),
}
NUMBERS = {"uint1": "B", "uint2": "<H", "int4": "<i", "uint4": "<I", "uint8": "<Q", "float8": ">d"}
TEXTS = st.one_of(
    st.sampled_from([b"data", b"fine_labels", b"labels", b"u1", b"latin1", b"|", b"\xc3\xa9", b"\xff"]), SMALL
)
LENGTH_FORMS = {"1": "B", "4": "<I", "8": "<Q"}


@st.composite
def instructions(draw) -> bytes:
    """One instruction of any kind with a fitting argument, or nearly."""
    known = draw(st.sampled_from(pickletools.opcodes))
    code = known.code.encode("latin1")
    if known.arg is None:
        return code
    kind = known.arg.name
    if kind == "stringnl_noescape_pair":
        return code + draw(NAMES).replace(" ", "\n", 1).encode("latin1") + b"\n"
    if kind in LINES:
        return code + draw(LINES[kind]) + b"\n"
    if kind in NUMBERS:
        form = NUMBERS[kind]
        if kind == "float8":
            return code + struct.pack(form, draw(st.floats()))
        size = struct.calcsize(form)
        number = draw(st.one_of(st.integers(0, 9), LENGTHS)) % (1 << 8 * size)
        return code + number.to_bytes(size, "little")
    form = LENGTH_FORMS[kind[-1]]
    content = draw(TEXTS)
    size = struct.calcsize(form)
    length = draw(st.one_of(st.just(len(content)), st.just(len(content)), LENGTHS)) % (1 << 8 * size)
    return code + length.to_bytes(size, "little") + content


@functools.cache
def parts_of_whole() -> list[bytes]:
    """The instructions of a good pickle, one by one."""
    content = whole("cifar pickle")
    at = [position for _, _, position in pickletools.genops(content)] + [len(content)]
    return [content[begin:end] for begin, end in zip(at[:-1], at[1:], strict=True)]


@st.composite
def pickles(draw) -> bytes:
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(damaged(whole("cifar pickle")))
    some = draw(st.lists(instructions(), max_size=12))
    if kind == 1:
        return b"".join(some) * draw(st.sampled_from([1, 1, 1, 200, 5000])) + b"."
    parts = list(parts_of_whole())
    for one in some[:6]:
        at = draw(st.integers(0, len(parts)))
        parts[at : at + draw(st.integers(0, 2))] = [one] * draw(st.sampled_from([1, 1, 1, 100, 3000]))
    if kind == 3:
        at = draw(st.integers(0, len(parts)))
        parts[at:at] = parts[draw(st.integers(0, at)) : at]
    return b"".join(parts)


MEMBERS = (
    *("cifar-100-python/train", "cifar-100-python/test", "./cifar-100-python/train", "cifar-100-python/meta"),
    *("cifar-100-python/../train", "../../etc/passwd", "/abs", "x" * 100),
)


@st.composite
def tar_headers(draw) -> bytes:
    name = draw(st.sampled_from(MEMBERS))
    size = draw(st.one_of(st.integers(0, 600), LENGTHS))
    field = draw(
        st.sampled_from(
            [f"{size:011o}\0".encode()[-12:], b"\x80" + size.to_bytes(11, "big"), b"\xff" * 12, b"-0000000001\0", b""]
        )
    )
    block = bytearray(512)
    block[: len(name)] = name.encode()
    block[124 : 124 + len(field)] = field
    block[156:157] = draw(st.sampled_from([b"0", b"0", b"\0", *(bytes([n]) for n in b"1234567SLKxgVMDN")]))
    block[257:265] = draw(st.sampled_from([b"ustar\x0000", b"ustar  \0", bytes(8)]))
    block[345:349] = draw(st.sampled_from([bytes(4), b"pre\0"]))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % (sum(block) + draw(st.sampled_from([0, 0, 0, 0, 1])))
    return bytes(block)


@st.composite
def archives(draw) -> bytes:
    if draw(st.booleans()):
        return draw(damaged(whole("archive")))
    good = gzip.decompress(whole("archive"))
    if draw(st.booleans()):
        return draw(gzipped(draw(damaged(good))))
    blocks = draw(st.lists(st.one_of(tar_headers(), st.just(bytes(512)), st.just(b"a" * 512)), max_size=6))
    ahead = draw(st.booleans())
    return draw(gzipped(b"".join(blocks) * draw(st.sampled_from([1, 1, 300])) + (good if ahead else b"")))


@st.composite
def mat_elements(draw, order: str, content: bytes, kind: int) -> bytes:
    kind = draw(st.one_of(*[st.just(kind)] * 6, st.integers(0, 20)))
    length = draw(st.one_of(*[st.just(len(content))] * 6, COUNTS))
    if len(content) <= 4 and draw(st.booleans()):
        return struct.pack(f"{order}I", (length & 0xFFFF) << 16 | kind) + content.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, length) + content + bytes(-len(content) % 8)


@st.composite
def mat_variables(draw, order: str) -> bytes:
    name = draw(st.sampled_from([b"X", b"y", b"X", b"y", b"Z", b"", b"\xff", b"n" * 70]))
    shape = [32, 32, 3, 2] if name == b"X" else [2, 1]
    shape = draw(st.one_of(st.just(shape), st.just(shape), st.lists(COUNTS, max_size=6)))
    values = bytes(32 * 32 * 3 * 2) if name == b"X" else b"\1\2"
    flags = draw(st.one_of(st.just(9), st.integers(0, 20))) | draw(st.sampled_from([0, 0, 0, 0x800, 0x200]))
    inner = b"".join(
        [
            draw(mat_elements(order, struct.pack(f"{order}II", flags, 0), 6)),
            draw(mat_elements(order, b"".join(struct.pack(f"{order}I", n) for n in shape), 5)),
            draw(mat_elements(order, name, 1)),
            draw(mat_elements(order, values, 2)),
        ]
    )
    matrix = draw(mat_elements(order, inner, 14))
    if draw(st.booleans()):
        return matrix
    packed = zlib.compress(matrix, 1)
    packed = draw(damaged(packed)) if draw(st.booleans()) else packed
    return struct.pack(f"{order}II", 15, draw(st.one_of(*[st.just(len(packed))] * 6, COUNTS))) + packed


@st.composite
def mat_files(draw) -> bytes:
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged(whole("svhn")))
    order = draw(st.sampled_from("<<<>"))
    version = draw(st.one_of(*[st.just(0x0100)] * 8, st.sampled_from([0x0200, 0, 0xFFFF])))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", version) + (b"IM" if order == "<" else b"MI")
    found = draw(st.lists(mat_variables(order), max_size=4))
    content = header + b"".join(found) * draw(st.sampled_from([1, 1, 1, 1, 600]))
    return draw(damaged(content)) if draw(st.booleans()) else content


STRATEGIES = {
    "idx": idx_files(),
    "cifar pickle": pickles(),
    "cifar binary": cifar_binary_files(),
    "svhn": mat_files(),
    "archive": archives(),
}
