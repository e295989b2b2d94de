"""Every file says what its bytes are: a changed one is named, and gives no other number."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings

import pytest

from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store import digests, reading
from dropdiag.store.reader import load
from dropdiag.store.storage.disk import Disk
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.store.test_run_folder import META, scalar, segment, write


@pytest.fixture
def run(tmp_path):
    write(tmp_path / "run")
    return tmp_path / "run"


def test_names_are_what_anybody_computes(run):
    found = [path for path in (run / "rank-0").iterdir() if path.suffix == ".parquet"]
    assert found
    for path in found:
        assert path.name.split(".")[2] == hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    head, _, last = (run / "run.json").read_text().rpartition(',\n "sha256": ')
    assert last == f'"{hashlib.sha256(head.encode()).hexdigest()}"\n}}\n'


@pytest.mark.parametrize("limit", [reading.WHOLE_BYTES, 0])
def test_a_changed_byte_of_a_segment_is_named_and_nothing_of_it_is_read(run, monkeypatch, limit):
    monkeypatch.setattr(reading, "WHOLE_BYTES", limit)
    path = segment(run, "scalars-")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.warns(DropdiagWarning, match=rf"{path.name} cannot be read: its bytes are not those that were written"):
        assert load(run).select(missing_ok=True).empty


def test_a_file_is_verified_once_and_again_when_it_was_written_to(run, monkeypatch):
    monkeypatch.setattr(reading, "WHOLE_BYTES", 0)
    load(run).select()
    seen = []
    monkeypatch.setattr(digests, "_check", lambda *told: seen.append(told))
    load(run).select()
    assert not seen
    path = segment(run, "scalars-")
    os.utime(path, ns=(1, 1))
    load(run).select()
    assert len(seen) == 1


def test_a_renamed_segment_and_one_of_another_run_are_named(run, tmp_path):
    expected = load(run).select()
    write(tmp_path / "other")
    foreign = segment(tmp_path / "other", "scalars-")
    shutil.copy(foreign, run / "rank-0" / foreign.name)
    own = segment(run, f"scalars-000001-000007.{load(run).meta['sessions'][0]['id'][:16]}")
    shutil.copy(own, own.with_name(own.name.replace("000001-000007", "000009")))
    with pytest.warns(DropdiagWarning) as said:
        assert load(run).select().equals(expected)
    told = sorted(str(one.message) for one in said)
    assert len(told) == 2
    assert "is a copy of" in told[0] or "is a copy of" in told[1]
    assert any("is of no session that the run knows" in one for one in told)


def test_numbers_in_names_of_files_are_not_counted_one_by_one(run):
    expected = load(run).select()
    own = segment(run, f"scalars-000001-000007.{load(run).meta['sessions'][0]['id'][:16]}")
    name = own.name.removeprefix("scalars-000001-000007")[:-15]
    for numbers in ("scalars-999999999999999", "scalars-100000000-999999999999998"):
        own.with_name(f"{numbers}{name}{len(numbers):07d}.parquet").write_bytes(b"no segment")
    with pytest.warns(DropdiagWarning) as said:
        assert load(run).select().equals(expected)
    assert any("lacks segments of the session" in str(one.message) for one in said)


def test_a_segment_that_came_while_the_folder_was_listed_is_not_taken_for_removed(tmp_path, monkeypatch):
    writer = RunWriter(tmp_path / "run", {**META, "warnings": [], "disabled_probes": []})
    for step in (1, 2, 3):
        writer.add_scalars([scalar(step, 1.0)])
        writer.flush()
    writer.drain()
    run, whole, listed = load(tmp_path / "run"), Disk.names, []

    def names(disk, folder):
        found = whole(disk, folder)
        listed.append(folder)
        return [name for name in found if not (len(listed) == 1 and name.startswith("scalars-000002"))]

    monkeypatch.setattr(Disk, "names", names)
    assert run.select()["step"].tolist() == [1, 2, 3]
    assert len(listed) == 2
    writer.close("completed")


def test_an_edited_run_json_is_named_and_read(run):
    file = run / "run.json"
    file.write_text(file.read_text().replace('"Dropout"', '"Edited"'))
    with pytest.warns(DropdiagWarning, match="run.json is not as dropdiag wrote it: it was edited, or is damaged"):
        found = load(run)
    assert found.condition == "Edited"
    write_meta(file, found.meta)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(run)


def test_a_run_json_without_its_last_line_is_named(run):
    file = run / "run.json"
    file.write_text(file.read_text().replace('"sha256"', '"sha257"'))
    with pytest.warns(DropdiagWarning, match="run.json is not as dropdiag wrote it"):
        load(run)


def test_a_run_json_that_cannot_be_read_names_what_may_stand_in(run):
    (run / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run.json cannot be read: .*session-000001\..*json has what it said"):
        load(run)
    (spare,) = (run / "rank-0").glob("session-*.json")
    expected = spare.read_bytes()
    shutil.copy(spare, run / "run.json")
    assert (run / "run.json").read_bytes() == expected
    assert load(run).state == "completed"
