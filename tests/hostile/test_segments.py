"""Segments that are damaged, or made to do harm: each is named and left out, and the rest of the run is read."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import warnings
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dropdiag as dd
from dropdiag.errors import DropdiagWarning, NotRecordedError, RunError
from dropdiag.store import tables
from dropdiag.store.copies import counted_once
from dropdiag.store.guard import rows
from dropdiag.store.lists import OpenLists
from dropdiag.store.reading import open_segment
from dropdiag.store.regular import open_regular, read_bytes
from dropdiag.store.rows import HistogramRow, ScalarRow, StateRow
from dropdiag.store.segments import Part, Segment, Span
from dropdiag.store.writer import RunWriter
from tests.described import without_digests
from tests.hostile import real_run
from tests.hostile.parquet_file import (
    COMPRESSED,
    DATA,
    GROUP_ROWS,
    GROUPS,
    LIST,
    PAGE_COMPRESSED,
    PAGE_UNCOMPRESSED,
    REPETITION,
    ROWS,
    SCHEMA,
    SIZES,
    VALUES,
    Field,
    File,
    varint,
)

META = {"layers": [], "activations": {}, "disabled_probes": [], "warnings": [], "steps": 3, "quantities": {},
        "versions": {}, "config": {"condition": "A", "seed": 0}}  # fmt: skip
BINS = np.array([1, 5, 9], np.uint16)
SLOPES = np.linspace(0.0, 1.0, 32_640)
HUGE = 2**31 - 1


def own(step, quantity="loss", value=None):
    return ScalarRow(step, "train", "fc", 0, quantity, float(step) if value is None else value)


def spread(step):
    return HistogramRow(step, "train", "fc", 0, "weight", BINS, np.array([2, 3, 4]))


def written(path, parts):
    """Write tables as dropdiag does, a row group each, under a name without a digest."""
    with pq.ParquetWriter(path, parts[0].schema, **tables.encoding(parts[0].schema)) as writer:
        for part in parts:
            writer.write_table(part)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Write a run of two segments of each table: steps 1 and 2, and step 3."""
    path = tmp_path_factory.mktemp("whole") / "run"
    writer = RunWriter(path, META)
    for steps in ((1, 2), (3,)):
        writer.add_scalars([own(step) for step in steps])
        writer.add_histograms([spread(step) for step in steps])
        writer.flush()
        writer.drain()
    writer.add_derivatives({"Tanh": SLOPES})
    writer.close("interrupted")
    without_digests(path)
    return path


@pytest.fixture
def run(whole, tmp_path):
    """Return a copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "run")


def first(run, table):
    return sorted(run.glob(f"rank-0/{table}-*.parquet"))[0]


def taken_apart(run, table="scalars"):
    path = first(run, table)
    file = File.of(path)
    file.layout()
    return path, file


def check_left_out(run, path, *words, steps=(3,)):
    """Check that a segment is named with all words, and that the steps of the others are read."""
    table = path.name.split("-")[0]
    for read in READS[table]:
        with pytest.warns(DropdiagWarning) as seen:
            assert list(read(dd.load(run))) == list(steps), "the rest of the run is not read"
        told = [str(one.message) for one in seen if path.name in str(one.message)]
        assert told, f"{path.name} is not named: {[str(one.message) for one in seen]}"
        for word in words:
            assert any(word in one for one in told), f"{word!r} is not in {told}"


READS = {
    "scalars": (
        lambda run: run.scalars["step"],
        lambda run: run.select("loss", missing_ok=True)["step"],
        lambda run: dd.Runs([run]).select("loss", missing_ok=True)["step"],
        lambda run: [step for table in run.tables.stream("scalars") for step in table["step"].to_pylist()],
    ),
    "histograms": (
        lambda run: run.histograms("weight", "all")["step"],
        lambda run: [step for table in run.tables.stream("histograms") for step in table["step"].to_pylist()],
    ),
}


# What the headers claim.


def page(name, field, value, place=-1):
    return lambda file: file.named(name)[1][place].header[field].__setattr__("value", value)


def counted(name, value, place=-1):
    return lambda file: file.named(name)[1][place].counts[1].__setattr__("value", value)


def said(name, field, value):
    return lambda file: file.named(name)[0][field].__setattr__("value", value)


def body(name, change, place=-1):
    def apply(file):
        one = file.named(name)[1][place]
        one.put(change(one.raw()))
        file.layout()

    return apply


def in_footer(path, value):
    def apply(file):
        fields = file.footer
        for place in path[:-1]:
            fields = fields[place].value
        fields[path[-1]].value = value

    return apply


def levels(raw):
    """Return where the levels of a page end."""
    return 4 + int.from_bytes(raw[:4], "little")


CLAIMS = {
    "a page of 2 GB": (page("value", PAGE_UNCOMPRESSED, HUGE), "more than its values take"),
    "a page of no size": (page("value", PAGE_UNCOMPRESSED, -1), "without a size"),
    "a page that goes back": (page("value", PAGE_COMPRESSED, -5), "without a size"),
    "a page that goes on": (page("value", PAGE_COMPRESSED, 10**6), "value"),
    "64 MB of zeros": (body("value", lambda raw: raw + bytes(1 << 26)), "more than its values take"),
    "2^31 names": (counted("layer", HUGE, 0), "names in"),
    "2^31 values": (counted("value", HUGE), "values"),
    "no value": (counted("value", 0), "it claims"),
    "fewer than no value": (counted("value", -1), "without a size"),
    "rows without end": (in_footer([ROWS], 10**15), "rows"),
    "a group without end": (in_footer([GROUPS, 0, GROUP_ROWS], 10**15), "claims"),
    "a group of fewer than no rows": (in_footer([GROUPS, 0, GROUP_ROWS], -1), "a row group of -1 rows"),
    "values without end": (said("value", VALUES, 10**15), "claims"),
    "a column before the file": (said("value", DATA, -1), "lies from byte"),
    "a column behind the file": (said("value", COMPRESSED, 10**12), "lies from byte"),
    "a run of 2^31 indices": (body("layer", lambda raw: raw[: levels(raw)] + b"\x20" + varint(2**32) + bytes(4)), "read"),
    "an index of no name": (body("layer", lambda raw: raw[: levels(raw)] + b"\x08\x04\x4d"), "out of bounds"),
    "a name of 2^31 bytes": (body("layer", lambda raw: b"\xff\xff\xff\x7f" + raw[4:], 0), "cannot be read"),
    "deltas of 2^31 blocks": (body("step", lambda raw: raw[: levels(raw)] + varint(2**31) + varint(2**26)), "read"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_that_the_bytes_do_not_hold_is_refused_before_anything_is_decoded(run, name):
    change, word = CLAIMS[name]
    path, file = taken_apart(run)
    change(file)
    path.write_bytes(file.content())
    check_left_out(run, path, "cannot be read", word)


@pytest.mark.parametrize(("name", "field", "value"), [
    ("value", 3, Field(LIST, [Field(6, 1), Field(6, 1), Field(6, 1)])), ("step", 1, Field(6, 8)), ("layer", 2, Field(LIST, [Field(6, 1)] * 5)),
])  # fmt: skip
def test_levels_that_are_not_the_schema_s_never_reach_arrow(run, name, field, value):
    """Asked for such a column, Arrow 26 ends the process: ``terminate called after throwing``."""
    path, file = taken_apart(run)
    file.named(name)[0][SIZES].value[field] = value
    path.write_bytes(file.content())
    check_left_out(run, path, "counts")


def test_columns_that_are_not_optional_are_refused(run):
    path, file = taken_apart(run)
    file.footer[SCHEMA].value[-1].value[REPETITION].value = 0
    path.write_bytes(file.content())
    check_left_out(run, path, "optional")


def test_lists_without_end_are_refused(run):
    path, file = taken_apart(run, "histograms")
    file.named("bins.list.element")[0][VALUES].value = 10**12
    path.write_bytes(file.content())
    check_left_out(run, path, "numbers in lists")


CHILD = """
import resource, shutil, sys, warnings
import dropdiag as dd
path, place, *bombs = sys.argv[1:]
def read():
    run = dd.load(path)
    return len(run.scalars.to_json()), len(run.histograms("weight", "all"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    read()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for bomb in bombs:
        shutil.copy(bomb, place)
        read()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_small_file_never_takes_much_memory(run, tmp_path):
    """Constant rows compress without end: 60 million of them fit in 60 kB, and would take 2 GB."""
    path, file = taken_apart(run)
    page = file.named("value")[1][-1]
    page.put(page.raw() + bytes(1 << 28))
    file.write(tmp_path / "zeros")
    schema = tables.SCHEMAS["scalars"]
    same = zip((1, "train", "fc", 0, "loss", 0.5), schema, strict=True)
    group = pa.Table.from_arrays(
        [pa.repeat(pa.scalar(value, field.type), 1 << 20) for value, field in same], schema=schema
    )
    pq.write_table(group, tmp_path / "rows", **tables.encoding(group.schema))
    many = File.of(tmp_path / "rows")
    many.footer[GROUPS].value *= 60  # each says where the same bytes lie
    many.footer[ROWS].value = 60 << 20
    (tmp_path / "rows").write_bytes(many.content())
    bombs = [tmp_path / "zeros", tmp_path / "rows"]
    assert all(bomb.stat().st_size < 1 << 17 for bomb in bombs)
    done = subprocess.run([sys.executable, "-c", CHILD, run, path, *bombs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000, f"{done.stdout} kB"


def test_a_footer_with_a_million_entries_is_refused(run):
    path, file = taken_apart(run)
    group = file.footer[GROUPS].value[0]
    column = group.value[1].value[0]
    group.value[1].value = [column] * 20_000
    path.write_bytes(file.content())
    check_left_out(run, path, "a list of 20,000 entries")


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1PAR1", b"x" * 5000, b"PAR1" + b"\xff" * 4 + b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1"]
)
def test_what_is_no_parquet_file_is_named(run, content):
    path = first(run, "scalars")
    path.write_bytes(content)
    check_left_out(run, path, "cannot be read")


# What rows hold.


def replaced(run, table, name, values):
    """Write the first segment anew with another column."""
    path = first(run, table)
    found = pq.read_table(path)
    field = found.schema.field(name)
    found = found.set_column(found.schema.get_field_index(name), field, pa.array(values, field.type))
    pq.write_table(found, path, **tables.encoding(found.schema))
    return path


TEXTS = [("layer", ["fc", "\0"]), ("layer", ["fc", "x" * 5000]), ("quantity", ["loss", "x" * (1 << 20)]), ("phase", ["\0", "a"]),
         ("phase", [None, "train"]), ("quantity", [None, "loss"])]  # fmt: skip
NUMBERS = [("step", [-1, 1]), ("step", [None, 1]), ("step", [1, 2**62]), ("call", [-1, 0]), ("call", [None, 0])]


@pytest.mark.parametrize(("name", "values"), TEXTS + NUMBERS)
@pytest.mark.parametrize("table", ["scalars", "histograms"])
def test_keys_are_checked(run, table, name, values):
    check_left_out(run, replaced(run, table, name, values), "cannot be read")


LISTS = [
    ("bins", [[1, 5, 9], [1, 9, 5]]), ("bins", [[1, 5, 9], [1, 5, 5]]), ("bins", [[1, 5, 9], [1, 5]]), ("bins", [[1, 5, 9], None]),
    ("bins", [[1, 5, 9], [1, 5, 1 << 15]]), ("bins", [[1, 5, 9], [1, 5, None]]), ("counts", [[2, 3, 4], [2, 3, 0]]),
    ("counts", [[2, 3, 4], [-2, 7, 4]]), ("counts", [[2, 3, 4], [2, 3, 5]]), ("counts", [[2, 3, 4], [2, 3, None]]),
    ("counts", [[2, 3, 4], [2**62, 2**62, 9]]), ("counts", [None, [2, 3, 4]]), ("n", [9, 8]), ("n", [9, None]), ("n", [-9, 9]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), [*LISTS, ("layer", ["fc", None])])
def test_histograms_are_checked(run, name, values):
    check_left_out(run, replaced(run, "histograms", name, values), "cannot be read")


def test_text_that_is_no_utf8_is_not_let_in(run):
    """In pandas it kills the process that makes JSON of it."""
    for table in ("scalars", "histograms"):
        for bad in (b"\xff", b"\xed\xa0\x80"):  # a lone byte, a lone surrogate
            path, file = taken_apart(run, table)
            body("layer", lambda raw, bad=bad: len(bad).to_bytes(4, "little") + bad, 0)(file)
            path.write_bytes(file.content())
            check_left_out(run, path, "UTF8")


def test_names_that_are_listed_twice_are_refused():
    """Arrow makes one of them; where it does not, rows of one name would be taken for those of two."""
    names = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), pa.array(["fc", "fc"]))
    with pytest.raises(RunError, match="listed twice"):
        rows.check(pa.table({"layer": names}), "scalars")


@pytest.mark.parametrize("change", [
    lambda table: table.drop_columns("value"),
    lambda table: table.append_column("more", table["value"]),
    lambda table: table.rename_columns(["step", "phase", "layer", "call", "quantity", "\x1b[31m"]),
    lambda table: table.set_column(0, "step", table["value"]),
    lambda table: table.set_column(2, "layer", pa.array([b"\xff"] * len(table))),
    lambda table: table.set_column(5, "value", pa.array([{"a": [1]}] * len(table))),
    lambda table: pa.table({f"c{place}": [1] for place in range(10_000)}),
])  # fmt: skip
def test_other_columns_are_refused(run, change):
    path = first(run, "scalars")
    pq.write_table(change(pq.read_table(path)), path, compression="zstd")
    check_left_out(run, path, "cannot be read")
    with pytest.warns(DropdiagWarning) as seen:
        _ = dd.load(run).scalars
    assert not any("\x1b" in str(one.message) for one in seen), "an escape reaches the terminal"


@pytest.mark.parametrize(("name", "place", "value"), [
    ("bin", 7, 9), ("bin", 7, None), ("bin", 0, 40_000), ("abs_derivative", 7, -1.0), ("abs_derivative", 7, None), ("activation", 7, "ReLU"),
])  # fmt: skip
def test_derivatives_are_checked(run, name, place, value):
    path = first(run, "derivatives")
    values = pq.read_table(path)[name].to_pylist()
    values[place] = value
    replaced(run, "derivatives", name, values)
    with pytest.warns(DropdiagWarning, match=path.name), pytest.raises(NotRecordedError):
        dd.load(run).derivative("Tanh")


def test_derivatives_that_are_cut_off_are_refused(run):
    path = first(run, "derivatives")
    pq.write_table(pq.read_table(path).slice(0, 100), path, compression="zstd")
    with pytest.warns(DropdiagWarning, match="each of the 32,640 bins"), pytest.raises(NotRecordedError):
        dd.load(run).derivative("Tanh")


@pytest.mark.parametrize(("quantity", "nodes", "size"), [
    ("node_correlation", 3, 9), ("net_value_moments", 1, 6), ("dead_share", 4, 7), ("dropout_noise_to_signal", 2, 5),
    ("update_to_weight", 9, 1), ("node_correlation", -1, 0),
])  # fmt: skip
def test_states_are_as_large_as_their_nodes_make_them(tmp_path, quantity, nodes, size):
    folder = tmp_path / "run" / "rank-0"
    folder.mkdir(parents=True)
    row = StateRow(1, "train", "fc", 0, quantity, 5, nodes, np.zeros(size))
    written(folder / "states-000001.parquet", tables.states([row]))
    with ExitStack() as stack:
        opened = OpenLists(Part(folder, (Span(1, None),)), "states", stack)
        assert len(opened.read(np.arange(len(opened.keys)))) == 0
        (problem,) = opened.problems
    assert "states-000001.parquet" in problem


# What lies in the place of a file.


def special(kind, path, tmp_path):
    """Put something that is no regular file of the run in its place."""
    other = tmp_path / "elsewhere.parquet"
    shutil.move(path, other)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.relpath(path))
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.symlink_to({"link out": other, "device": "/dev/zero", "link to nothing": "gone"}[kind])


KINDS = {
    "pipe": "a pipe (FIFO)", "folder": "is a folder", "socket": "a socket", "device": "is a device", "link out": "copy the file",
    "link to nothing": "leads nowhere", "sparse": "no Parquet file",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_of_the_run_is_named_and_never_waited_for(run, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(run / "rank-0")
    path = first(run, "scalars")
    special(kind, path, tmp_path)
    check_left_out(run, path, KINDS[kind])
    copy = shutil.copytree(run, tmp_path / "copy", ignore=lambda _, names: [n for n in names if n == path.name])
    (copy / "rank-0" / path.name).symlink_to(path)
    meta = [one / "run.json" for one in (run, copy)]
    for file in meta:  # as runs were that had no identifier: their files are compared
        file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith(' "id"')))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DropdiagWarning)
        assert len(counted_once([dd.Run(run), dd.Run(copy)]).runs) == 2


def test_a_rank_folder_outside_of_the_run_is_refused_and_a_run_behind_a_link_is_read(run, tmp_path):
    (tmp_path / "link").symlink_to(run)
    assert list(dd.load(tmp_path / "link").scalars["step"]) == [1, 2, 3]
    shutil.move(run / "rank-0", tmp_path / "away")
    (run / "rank-0").symlink_to(tmp_path / "away")
    with pytest.warns(DropdiagWarning, match="copy the file"):
        assert dd.load(run).scalars.empty


def test_files_are_read_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5, tmp_path) == b"12345"
    with pytest.raises(RunError, match="has 5 bytes, and one of its kind has 4 at most"):
        read_bytes(path, 4)
    with pytest.raises(RunError, match="is a device"):
        read_bytes("/dev/zero", 4)
    with pytest.raises(RunError, match="is a folder"):
        open_regular(tmp_path)
    with pytest.raises(RunError, match="leads out of"):
        read_bytes(_link(tmp_path), 5, tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none", 5)


def _link(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to("../file")
    return tmp_path / "run" / "link"


# What is right is read.


def test_real_tables_are_read_however_large_and_however_well_they_compress(tmp_path):
    folder = tmp_path / "run" / "rank-0"
    folder.mkdir(parents=True)
    schema = tables.SCHEMAS["scalars"]
    same = [pa.repeat(pa.scalar(value, field.type), 65_536)
            for value, field in zip((1, "train", "fc", 0, "loss", 0.5), schema, strict=True)]  # fmt: skip
    group = pa.Table.from_arrays(same, schema=schema)
    every = np.arange(1 << 15, dtype=np.uint16)
    full = [HistogramRow(step, "train", "fc", 0, "weight", every, np.ones(1 << 15, np.int64)) for step in range(50)]
    nodes = 4096
    zeros = np.zeros(3 * nodes + nodes * (nodes + 1) // 2)
    state = StateRow(1, "train", "fc", 0, "node_correlation", 5, nodes, zeros)
    for name, parts in {
        "scalars": [group] * 10, "histograms": [tables.histograms(full)], "states": tables.states([state]),
        "derivatives": [tables.derivative(name, np.full(32_640, np.nan)) for name in ("A", "B")],
    }.items():  # fmt: skip
        path = folder / f"{name}-000001.parquet"
        written(path, parts)
        with open_segment(Segment(name, 1, 1, path)) as file:
            file.check_pages()
            rows = sum(len(file.read_row_group(place)) for place in range(len(file.groups)))
        assert rows == sum(map(len, parts)), f"{name} are not read whole"


def test_a_run_of_two_ranks_is_read_beside_a_damaged_segment(tmp_path):
    run = real_run.write(tmp_path / "run")
    assert len(dd.load(run).select("net_value_sd")) == 3
    path = sorted(run.glob("rank-1/states-*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(DropdiagWarning) as seen:
        assert dd.load(run).select("net_value_sd")["value"].isna().all(), "they are those of one rank"
    assert [path.name in str(seen[0].message), "3 numbers are missing" in str(seen[1].message)] == [True, True]


def test_segments_changed_in_all_of_their_layers_raise_nothing_of_other_libraries(tmp_path):
    """The long form is ``tests/slow/test_fuzz_segments.py``."""
    read = real_run.Read()
    read.read(real_run.write(tmp_path / "run"), first=0, seeds=8)
    assert read.found == []
    assert read.inputs == 8
