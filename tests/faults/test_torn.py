"""Files that are torn, empty, missing, or of another run: what is left is read, and what is not is named."""

import hashlib
import json
import re
import shutil
import warnings

import pytest

import dropdiag as dd
from dropdiag.errors import RunError
from tests.faults.oracle import told_of
from tests.faults.reading import command, seen
from tests.faults.scenes import open_writers, record


@pytest.fixture
def run(tmp_path):
    """A run of three flushes that is not compacted."""
    path = tmp_path / "runs" / "run"
    (writer,) = open_writers(path, None, 1, 1)
    record([writer], 1, range(1, 7))
    writer.close("failed", "Error: of the test")
    return path


def segments(path, table="scalars"):
    return sorted(path.glob(f"rank-*/{table}-*.parquet"), key=lambda file: file.name)


def beginning(file):
    """Return what a sentence on a segment must hold: its table and number."""
    return re.match(r"[a-z]+-\d+", file.name)[0]


def check_rest(path, before, file, said=None):
    """What is read is as before, but for the rows of one file, and the file is spoken of."""
    now = seen(path)
    assert now.foreign == []
    assert set(now.rows) < set(before.rows)
    assert not now.doubled
    lost = {key[1] for _, key, _ in set(before.rows) - set(now.rows)}
    table = {key[0] for _, key, _ in set(before.rows) - set(now.rows)}
    assert (len(lost), table) == (2, {file.name.split("-")[0]})
    assert any(said in one for one in now.told) if said else now.names(beginning(file)), now.told


@pytest.mark.parametrize("table", ["scalars", "histograms"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_torn_segment_is_named_and_the_rest_is_read(run, table, place):
    before, file = seen(run), segments(run, table)[place]
    content = file.read_bytes()
    for length in (0, 1, 3, 4, 8, *range(13, len(content), max(len(content) // 16, 1)), len(content) - 1):
        file.write_bytes(content[:length])
        check_rest(run, before, file)
    file.write_bytes(content + b"\0")
    check_rest(run, before, file)
    file.write_bytes(content)
    assert seen(run) == before


def test_a_torn_table_of_derivatives_is_named_and_the_rest_is_read(run):
    before, (file,) = seen(run), segments(run, "derivatives")
    content = file.read_bytes()
    for length in (0, 5, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        now = seen(run)
        assert (now.foreign, now.rows, now.derivatives) == ([], before.rows, {})
        assert now.names(beginning(file))


def test_a_torn_run_json_is_one_error_that_names_it(run):
    file = run / "run.json"
    content = file.read_bytes()
    for length in [*range(0, len(content) - 1, 13), len(content) - 2]:
        file.write_bytes(content[:length])
        if length >= len(content.rstrip()):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(RunError, match=r"run\.json"):
                dd.load(run)


def test_a_run_json_that_is_torn_stops_no_other_run(run):
    shutil.copytree(run, run.with_name("other"))
    (run / "run.json").write_bytes(b"")
    listed, code, said = command("ls", run.parent)
    assert [one["name"] for one in listed["runs"]] == ["other"]
    assert [one["name"] for one in listed["unreadable"]] == ["run"]
    assert (code, "run.json" in said) == (1, True)


def test_a_torn_rank_json_costs_that_rank_alone_and_is_named(tmp_path):
    path = tmp_path / "runs" / "run"
    for writer in (writers := open_writers(path, None, 1, 2)):
        record([writer], 1, range(1, 5))
    for writer in reversed(writers):
        writer.close("failed", "Error: of the test")
    before, file = seen(path), path / "rank-1" / "rank.json"
    content = file.read_bytes()
    for length in [*range(0, len(content) - 2, 97), len(content) - 3]:
        file.write_bytes(content[:length])
        now = seen(path)
        assert now.foreign == []
        assert [row for row in now.rows if row[0] == 0] == [row for row in before.rows if row[0] == 0]
        assert set(now.rows) <= set(before.rows)
        assert now.names("rank.json"), now.told


def test_a_segment_that_is_missing_in_the_middle_leaves_the_rest_and_is_named(run):
    before, file = seen(run), segments(run)[1]
    number, session = int(file.name.split(".")[0].split("-")[1]), file.name.split(".")[1]
    file.unlink()
    check_rest(run, before, file, f"rank-0 lacks segments of the session {session}, numbers {number}:")


def test_a_segment_of_another_run_is_named_and_not_counted(run, tmp_path):
    other = tmp_path / "other"
    (writer,) = open_writers(other, None, 9, 1)
    record([writer], 9, range(1, 9))
    writer.close("failed", "Error: of the test")
    before = seen(run)
    strange = [file for table in ("scalars", "histograms") for file in segments(other, table)[3:]]
    for file in strange:
        shutil.copyfile(file, run / "rank-0" / file.name)
    now = seen(run)
    assert now.foreign == []
    assert (now.rows, now.derivatives) == (before.rows, before.derivatives)
    identifier = json.loads((other / "run.json").read_bytes())["sessions"][0]["id"][:16]
    assert now.names(identifier)


def test_a_segment_that_is_copied_under_another_number_counts_once_and_is_named(run):
    before, file = seen(run), segments(run)[0]
    copy = file.with_name(file.name.replace(re.search(r"\d{6,}", file.name)[0], "000042", 1))
    shutil.copyfile(file, copy)
    now = seen(run)
    assert now.foreign == []
    assert sorted(now.rows, key=repr) == sorted(before.rows, key=repr)
    assert now.names("000042", beginning(file))


def test_a_segment_of_another_table_or_digest_is_named_and_not_counted(run):
    before = seen(run)
    (scalars, *_), (histograms, *_) = segments(run), segments(run, "histograms")
    wrong = [scalars.with_name(scalars.name.replace("scalars", "histograms")),
             histograms.with_name(histograms.name.replace("histograms", "scalars"))]  # fmt: skip
    digest = scalars.name.split(".")[-2]
    wrong.append(scalars.with_name(scalars.name.replace(digest, digest[::-1])))
    for name in wrong:
        shutil.copyfile(scalars if name.name.startswith("hist") else histograms, name)
        now = seen(run)
        name.unlink()
        assert now.foreign == []
        assert set(now.rows) <= set(before.rows)
        assert not now.doubled
        assert now.names(beginning(name)), now.told


def test_a_segment_of_another_rank_is_named_and_not_counted(tmp_path):
    path = tmp_path / "runs" / "run"
    writers = open_writers(path, None, 1, 2)
    for writer, steps in zip(writers, (6, 4), strict=True):
        record([writer], 1, range(1, steps + 1))
    for writer in reversed(writers):
        writer.close("failed", "Error: of the test")
    before, strange = seen(path), sorted((path / "rank-0").glob("scalars-*.parquet"))[2]
    shutil.copyfile(strange, path / "rank-1" / strange.name)
    now = seen(path)
    assert now.foreign == []
    assert now.rows == before.rows
    assert now.names(beginning(strange)), now.told


def test_an_older_run_json_hides_no_session_silently(run):
    kept = (run / "run.json").read_bytes()
    (writer,) = open_writers(run, 6, 2, 1)
    record([writer], 2, range(7, 9))
    writer.close("failed", "Error: of the test")
    before, identifier = seen(run), writer.meta["sessions"][-1].get("id")
    (run / "run.json").write_bytes(kept)
    now = seen(run)
    assert now.foreign == []
    assert set(now.rows) <= set(before.rows)
    assert set(now.rows) == set(before.rows) or now.names(identifier[:16]), now.told


def test_a_segment_is_named_by_the_digest_of_its_bytes(run):
    for file in run.glob("rank-*/*.parquet"):
        *_, session, digest, _ = file.name.split(".")
        assert hashlib.sha256(file.read_bytes()).hexdigest()[:32] == digest
        assert json.loads((run / "run.json").read_bytes())["sessions"][0]["id"].startswith(session)


def test_what_the_writer_was_given_is_what_is_read(run):
    from tests.faults import oracle

    given = dict(
        told_of(row) for step in range(1, 7) for row in (*oracle.scalars(1, step), *oracle.histograms(1, step))
    )
    assert {key: value for _, key, value in seen(run).rows} == given
