"""Segments as nobody writes them: real ones, changed in any of their layers, a seed each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dropdiag.store.tables import encoding
from tests.hostile.parquet_file import (
    BINARY,
    DATA_PAGE,
    DICTIONARY_PAGE,
    INTEGERS,
    LIST,
    PAGE_UNCOMPRESSED,
    STRUCT,
    Field,
    File,
    Page,
)

ENDS = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    1 << 15,
    (1 << 16) - 1,
    1 << 24,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 40,
    (1 << 63) - 1,
)
LARGE = 48 << 20
MANY = 2000


class Choose(random.Random):
    """Chooses by a seed; a list is made long once a file, for a long list of long lists would fill the memory here."""

    repeated = False


def mutated(seed: int, segments: Sequence[bytes]) -> tuple[int, bytes, str]:
    """Return which of some segments is changed, how it is then, and what was done."""
    choose = Choose(seed)
    place = choose.randrange(len(segments))
    change = choose.choice(CHANGES)
    try:
        return place, change(choose, segments[place], segments), change.__name__
    except (
        ValueError,
        LookupError,
        OSError,
        OverflowError,
        pa.ArrowException,
    ):  # changed twice, so that it has no form
        return place, flips(choose, segments[place], segments), flips.__name__


def flips(choose: Choose, content: bytes, _: Sequence[bytes]) -> bytes:
    """Turn some bits over."""
    changed = bytearray(content)
    for _ in range(choose.choice((1, 1, 2, 8, 64))):
        changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


def truncation(choose: Choose, content: bytes, _: Sequence[bytes]) -> bytes:
    """Cut it off, or take a piece out of it."""
    begin, end = sorted(choose.randrange(len(content) + 1) for _ in range(2))
    return choose.choice((content[:begin], content[begin:], content[:begin] + content[end:]))


def splice(choose: Choose, content: bytes, segments: Sequence[bytes]) -> bytes:
    """Put a piece of another one, zeros or noise in a place."""
    other = choose.choice(segments)
    begin, end = sorted(choose.randrange(len(other) + 1) for _ in range(2))
    piece = choose.choice((other[begin:end], bytes(end - begin), choose.randbytes(end - begin)))
    at = choose.randrange(len(content) + 1)
    return content[:at] + piece + content[choose.choice((at, min(at + len(piece), len(content)))) :]


def footers(choose: Choose, content: bytes, _: Sequence[bytes]) -> bytes:
    """Change fields of the footer, which stays one."""
    file = File(content)
    file.layout()
    for _ in range(choose.choice((1, 1, 1, 2, 5))):
        _change(choose, Field(STRUCT, file.footer))
    return file.content()


def headers(choose: Choose, content: bytes, _: Sequence[bytes]) -> bytes:
    """Change fields of a page's header; the footer fits it, or is as it was."""
    file = File(content)
    file.layout()
    _change(choose, Field(STRUCT, _page(choose, file).header))
    if choose.random() < 0.5:
        file.layout()
    return file.content()


def values(choose: Choose, content: bytes, _: Sequence[bytes]) -> bytes:
    """Change what a page holds before it is compressed."""
    file = File(content)
    page = _page(choose, file)
    raw = bytearray(page.raw())
    for _ in range(choose.choice((1, 1, 2, 8))):
        if raw:
            raw[choose.randrange(len(raw))] = choose.choice((0, 1, 127, 128, 255, choose.randrange(256)))
    page.put(bytes(raw[: choose.choice((len(raw), len(raw), choose.randrange(len(raw) + 1)))]))
    return _laid_out(file)


def pages(choose: Choose, content: bytes, _: Sequence[bytes]) -> bytes:
    """Repeat, leave out, swap or move pages."""
    file = File(content)
    one, other = choose.choice(file.chunks), choose.choice(file.chunks)
    if choose.random() < 0.3:
        one.insert(choose.randrange(len(one) + 1), choose.choice(other))
    elif choose.random() < 0.5:
        one[:] = one * choose.choice((2, 40))
    else:
        at, to = choose.randrange(len(one)), choose.randrange(len(other))
        one[at], other[to] = other[to], one[at]
    return _laid_out(file)


def bombs(choose: Choose, content: bytes, _: Sequence[bytes]) -> bytes:
    """Blow a page up, its footer and header fitting it or not."""
    file = File(content)
    page = _page(choose, file)
    raw = page.raw()
    page.put(raw + bytes([choose.choice((0, 255))]) * choose.choice((1 << 20, LARGE)))
    if choose.random() < 0.3:
        page.header[PAGE_UNCOMPRESSED].value = choose.choice((len(raw), (1 << 31) - 1))
    if choose.random() < 0.5:
        page.counts[1].value = choose.choice((1 << 22, 1 << 26, (1 << 31) - 1))
    return _laid_out(file)


def rows(choose: Choose, content: bytes, _: Sequence[bytes]) -> bytes:
    """Write rows that dropdiag never would, as it would write them."""
    table = pq.read_table(pa.BufferReader(content))
    for _ in range(choose.choice((1, 1, 2))):
        name = choose.choice(table.column_names)
        column = table[name].to_pylist()
        for _ in range(choose.choice((1, 3))):
            column[choose.randrange(len(column))] = _odd(choose, table.schema.field(name).type)
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(column, table.schema.field(name).type))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **encoding(table.schema))
    return bytes(sink.getvalue().to_pybytes())


def tables(choose: Choose, content: bytes, _: Sequence[bytes]) -> bytes:
    """Write a table with other columns, types or encodings."""
    table = pq.read_table(pa.BufferReader(content))
    at = choose.randrange(table.num_columns)
    name = table.column_names[at]
    others: list[Callable[[], pa.Table]] = [
        lambda: table.drop_columns(name),
        lambda: table.append_column(name + "2", table[name]),
        lambda: table.select([*table.column_names, name]),
        lambda: table.set_column(at, name, pa.array([b"\xff"] * len(table), pa.binary())),
        lambda: table.set_column(at, name, pa.array([{"a": [1]}] * len(table))),
        lambda: table.set_column(at, name, pa.nulls(len(table))),
        lambda: table.set_column(
            at, name, pa.array(["x" * min(choose.choice((1, 5000, 1 << 20)), LARGE // len(table))] * len(table))
        ),
        lambda: table.set_column(at, name, pa.array([2.5] * len(table))),
        lambda: table.set_column(at, name, pa.array([[1, None]] * len(table))),
        lambda: table.slice(0, 0),
        lambda: pa.concat_tables([table] * choose.choice((2, 50))),
    ]
    sink = pa.BufferOutputStream()
    compression = choose.choice(("zstd", "snappy", "gzip", "none"))
    version = choose.choice(("1.0", "2.0"))
    changed = choose.choice(others)()
    pq.write_table(changed, sink, compression=compression, data_page_version=version,
                   row_group_size=choose.choice((1, 100, 1 << 20)), use_dictionary=choose.random() < 0.5)  # fmt: skip
    return bytes(sink.getvalue().to_pybytes())


CHANGES: tuple[Callable[[Choose, bytes, Sequence[bytes]], bytes], ...] = (
    flips, truncation, splice, footers, footers, headers, headers, values, values, pages, bombs, rows, tables,
)  # fmt: skip


def _odd(choose: Choose, dtype: pa.DataType) -> Any:
    if pa.types.is_list(dtype):
        size = choose.choice((0, 1, 7, 40))
        return choose.choice((None, [_odd(choose, dtype.value_type) for _ in range(size)]))
    if pa.types.is_integer(dtype):
        least, most = (
            (0, (1 << 16) - 1)
            if dtype == pa.uint16()
            else (-(1 << (dtype.bit_width - 1)), (1 << (dtype.bit_width - 1)) - 1)
        )
        return choose.choice((None, *(max(least, min(end, most)) for end in ENDS)))
    if pa.types.is_floating(dtype):
        return choose.choice((None, float("nan"), float("inf"), -float("inf"), 1.7e308, -1e300, 5e-324, -1.0))
    return choose.choice(
        (None, "", "\0", "\x1b[2J", "=1+1", "loss", "train", "x" * 5000, "\ue000", "a/../b", "node_correlation")
    )


def _page(choose: Choose, file: File) -> Page:
    return choose.choice(choose.choice(file.chunks))


def _laid_out(file: File) -> bytes:
    file.layout()
    return file.content()


def _change(choose: Choose, field: Field) -> None:
    """Change a field somewhere below one."""
    fields: list[Field] = list(field.value.values() if field.kind == STRUCT else field.value)
    if not fields:
        return
    if choose.random() < 0.08:
        _rearrange(choose, field)
        return
    below = choose.choice(fields)
    if below.kind in (STRUCT, LIST) and choose.random() < 0.95:
        _change(choose, below)
    elif below.kind in INTEGERS:
        below.value = choose.choice((*ENDS, below.value + 1, below.value - 1, below.value * 2, -below.value))
    elif below.kind == BINARY:
        long = b"x" * choose.choice((1, 300, 1 << 20))
        below.value = choose.choice((b"", b"\xff", long, below.value[:-1], choose.randbytes(len(below.value))))
    elif below.kind in (1, 2):
        below.value = not below.value
    else:
        _rearrange(choose, field)


def _rearrange(choose: Choose, field: Field) -> None:
    if field.kind == LIST:
        size = choose.choice((1, 2, 1 if choose.repeated else MANY))
        choose.repeated |= size == MANY
        field.value[:] = choose.choice((field.value[1:], field.value[::-1], field.value[:1] * size))
    else:
        key = choose.choice(
            [key for key in field.value if key not in (DATA_PAGE, DICTIONARY_PAGE)] or list(field.value)
        )
        moved = field.value.pop(key)
        if choose.random() < 0.5:
            field.value[choose.choice((key + 1, 19, 200))] = moved
