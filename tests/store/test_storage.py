"""Runs in an object store: what is read is what a disk would hold, whatever fails meanwhile."""

from __future__ import annotations

import json
import threading
import uuid
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from dropdiag.cli import app
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.recorder import Recorder
from dropdiag.report.cache import state
from dropdiag.store import claims, reading, writer
from dropdiag.store.catalog import Catalog
from dropdiag.store.claims import TakenError
from dropdiag.store.folder import resume_step
from dropdiag.store.reader import load
from dropdiag.store.storage import objects as objects_module
from dropdiag.store.storage.chosen import OBJECTS
from dropdiag.store.storage.places import as_path, is_remote
from dropdiag.store.writer import RunWriter
from tests.store.stores import MEMORY, fail_at_random, fsspec, objects, refuse_from
from tests.store.test_run_folder import histogram, scalar, write
from tests.store.test_sessions import meta as fresh
from tests.store.test_sessions import of_steps, record

upath = pytest.importorskip("upath", reason="needs dropdiag[remote]")


@pytest.fixture
def root():
    """A place of its own in the store in memory."""
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    system = fsspec.filesystem("memory")
    if system.exists(url):
        system.rm(url, recursive=True)


def train(where, condition="A", seed=0, **options):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Recorder(model, where, every=1, config={"condition": condition, "seed": seed}, **options) as recorder:
        for _ in range(3):
            loss = model(torch.randn(16, 4)).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.step(loss=loss)
    return recorder.path


def digests(names):
    """Return what segments are called but for their session: the digest is of all their bytes."""
    parts = [Path(name).name.split(".") for name in names if name.endswith(".parquet")]
    return sorted((first, digest) for first, _, digest, _ in parts)


def changed_at_will(frame):
    """Return the rows that do not hold times."""
    timed = frame["quantity"].str.contains("second|overhead|share_of_time|time")
    return frame[~timed].reset_index(drop=True)


def test_a_run_in_a_store_has_the_bytes_of_one_on_a_disk(tmp_path, root, monkeypatch):
    with monkeypatch.context() as patch:  # of one identifier, for a segment says which session wrote it
        patch.setattr("dropdiag.store.writer.uuid.uuid4", lambda: uuid.UUID(int=7 << 120))
        write(tmp_path / "run")
        write(as_path(f"{root}/run"))
    here = [path.name for path in (tmp_path / "run").rglob("*")]
    there = objects(f"{root}/run")
    assert digests(here) == digests(there)
    assert len(digests(there)) == 2  # compacted, and the parts are gone
    assert sorted(name for name in there if name.endswith(".json")) == [
        f"rank-0/session-000001.{load(f'{root}/run').meta['sessions'][0]['id'][:16]}.json", "run.json"
    ]  # fmt: skip
    one, two = load(tmp_path / "run"), load(f"{root}/run")
    assert one.scalars.equals(two.scalars)
    assert one.histograms("net_value", "all").equals(two.histograms("net_value", "all"))


def test_a_recorder_records_into_a_store_and_goes_on_there(tmp_path, root):
    assert str(train(f"{root}/run")) == f"{root}/run"
    train(tmp_path / "run")
    one, two = load(tmp_path / "run"), load(f"{root}/run")
    assert changed_at_will(one.scalars).equals(changed_at_will(two.scalars))
    assert one.histograms("net_value", "all").equals(two.histograms("net_value", "all"))
    for path in (tmp_path / "run", f"{root}/run"):
        train(path, resume=True)
    assert changed_at_will(load(tmp_path / "run").scalars).equals(changed_at_will(load(f"{root}/run").scalars))
    assert [str(train(root, name="auto")) for _ in range(2)] == [f"{root}/a-s0", f"{root}/a-s0-2"]
    with pytest.raises(RunError, match="holds a run already"):
        train(f"{root}/run")
    with pytest.raises(RunError, match="is not empty already"):
        train(root)


def write_whole(path):
    recording = RunWriter(path, fresh())
    for step in range(1, 4):
        record(recording, [step], step / 2)
    recording.close("completed")


def test_a_process_that_goes_at_any_moment_leaves_what_it_had_put(root, monkeypatch):
    number, ended = 0, False
    while not ended:
        path = as_path(f"{root}/run-{number}")
        with monkeypatch.context() as patch:
            done = refuse_from(patch, number)
            try:
                write_whole(path)
                ended = len(done) < number
            except OSError:
                pass
        flushed = len([name for what, name in done if what == "pipe_file" and "/scalars-" in name and "-00" in name])
        if not any(name.endswith("run.json") for name in objects(str(path))):
            number += 1
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run = load(path)
            frame = run.scalars.query("layer == 'a'")
        assert frame["value"].tolist() == [step / 2 for step in range(1, min(flushed, 3) + 1)], (number, done)
        again = RunWriter(path, fresh(), resume_from=len(frame))
        again.add_scalars([scalar(step, step / 2) for step in range(len(frame) + 1, 5)])
        again.close("completed")
        assert load(path).scalars.query("layer == 'a'")["value"].tolist() == [0.5, 1.0, 1.5, 2.0], (number, done)
        number += 1
    assert number > 12


@pytest.mark.parametrize("seed", range(5))
def test_what_fails_is_put_again_and_nothing_twice(root, monkeypatch, seed):
    path = as_path(f"{root}/run")
    recording = RunWriter(path, fresh())
    failed = fail_at_random(monkeypatch, seed)
    for step in range(1, 7):
        recording.add_scalars([scalar(step, step / 2)])
        recording.add_histograms([histogram(step, [step])])
        recording.flush()
        for _ in range(100):
            try:
                recording.drain()
                break
            except OSError:
                continue
    monkeypatch.undo()
    recording.close("completed")
    assert failed
    run = load(path)
    assert of_steps(run) == {step: step / 2 for step in range(1, 7)}
    assert run.histograms("net_value", "all")["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert run.state == "completed"


@pytest.mark.parametrize("conditional", [True, False])
def test_of_new_runs_that_begin_at_once_one_goes_on(root, monkeypatch, conditional):
    monkeypatch.setattr(writer, "check_new", lambda *_: None)  # all have looked before any has put anything
    if not conditional:
        whole = MEMORY.pipe_file

        def without_conditions(self, path, value):
            return whole(self, path, value)

        monkeypatch.setattr(MEMORY, "pipe_file", without_conditions)
    path, barrier = as_path(f"{root}/run"), threading.Barrier(4)
    begun, refused = [], []

    def begin():
        barrier.wait()
        try:
            begun.append(RunWriter(path, fresh()))
        except TakenError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (one,) = begun
    assert len(refused) == 3
    assert all("another process has just begun a run" in text for text in refused)
    assert [name for name in objects(f"{root}/run") if "session" in name] == [
        f"rank-0/session-000001.{one.meta['sessions'][0]['id'][:16]}.json"
    ]
    record(one, [1, 2], 1.0)
    one.close("completed")
    assert of_steps(load(path)) == {1: 1.0, 2: 1.0}


@pytest.mark.parametrize("identifier", ["0" * 32, "f" * 32])
def test_a_new_run_gives_up_beside_one_that_has_begun(root, monkeypatch, identifier):
    path = as_path(f"{root}/run")
    monkeypatch.setattr(writer, "check_new", lambda *_: None)
    first = RunWriter(path, fresh(), session={"id": "8" * 32})
    before = objects(f"{root}/run")
    with pytest.raises(TakenError):
        RunWriter(path, fresh(), session={"id": identifier})
    assert objects(f"{root}/run") == before
    first.close("completed")


def test_a_claim_of_a_process_that_died_is_no_obstacle_for_ever(root, monkeypatch):
    path = as_path(f"{root}/run")
    monkeypatch.setattr(claims, "WAIT_SECONDS", 0.0)
    own, other = (path / "rank-0" / f"session-000001.{digit * 16}.json" for digit in "0f")
    for file in (own, other):
        with OBJECTS.put(file, file, replaces=False) as out:
            out.write(b"{}")
    claims.claim(path / "run.json", own, b"{}")
    with pytest.raises(TakenError):
        claims.claim(path / "run.json", other, b"{}")
    assert set(objects(f"{root}/run")) == {"run.json", f"rank-0/{own.name}"}


def test_two_sessions_side_by_side_are_told_apart(root):
    path = as_path(f"{root}/run")
    first = RunWriter(path, fresh())
    record(first, [1, 2], 1.0)
    second = RunWriter(path, fresh(), resume_from=2)
    record(second, [3, 4], 2.0)
    record(first, [3, 4, 5], 1.0)
    assert first.superseded
    first.close("completed")
    second.close("completed")
    with pytest.warns(DropdiagWarning, match="two processes recorded at the same time"):
        run = load(path)
    assert of_steps(run) == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}
    assert of_steps(run.session(run.meta["sessions"][0]["id"])) == {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0}


@pytest.mark.parametrize("whole", [True, False])
def test_a_damaged_object_is_named_and_the_rest_is_read(root, monkeypatch, whole):
    if not whole:  # every object is a large one
        monkeypatch.setattr(reading, "WHOLE_BYTES", 100)
        monkeypatch.setattr(objects_module, "WHOLE_BYTES", 100)
    path = as_path(f"{root}/run")
    write(path, close=False).save_meta(state="interrupted")
    assert load(path).scalars.query("layer == 'a'")["value"].tolist() == [0.5, 1.0, 1.5, 2.0]
    name = next(name for name in objects(f"{root}/run") if "scalars-000003" in name)
    system = fsspec.filesystem("memory")
    content = bytearray(system.cat_file(f"{root}/run/{name}"))
    content[len(content) // 2] ^= 1
    system.pipe_file(f"{root}/run/{name}", bytes(content))
    with pytest.warns(DropdiagWarning, match="its bytes are not those that were written") as told:
        frame = load(path).scalars
    assert any(f"{root}/run/{name}" in str(one.message) for one in told)
    assert frame.query("layer == 'a'")["value"].tolist() == [0.5, 1.5, 2.0]


@pytest.mark.parametrize(
    "where", ["a-0", "a-*", "*", "", "deep", "deep/*", "**/b-[01]", "**", "a-?", "lr=[0.1]", "a-0/run.json", "lr=[0.1]/*"]
)  # fmt: skip
def test_paths_and_patterns_stand_for_the_runs_they_would_on_a_disk(tmp_path, root, where):
    for name in ("a-0", "a-1", "deep/b-0", "deep/b-1", ".hidden/c", "lr=[0.1]/s0"):
        write(tmp_path / name, steps=1)
        write(as_path(f"{root}/{name}"), steps=1)
    here, there = load(str(tmp_path / where)), load(f"{root}/{where}")
    assert type(here) is type(there)
    runs = [[found] if hasattr(found, "meta") else list(found) for found in (here, there)]
    names = [str(run.path.relative_to(tmp_path).as_posix()) for run in runs[0]]
    assert names == [str(run.path).removeprefix(f"{root}/") for run in runs[1]]


@pytest.mark.parametrize(
    "name", ["file::x", "zip::x", "x::http://127.0.0.1:9/x", "http://127.0.0.1:9/x", "a::file:///tmp"]
)
def test_a_name_that_leads_to_another_store_is_left_out_and_the_others_are_read(root, name):
    written = as_path(f"{root}/good")
    write(written, steps=1)
    system = fsspec.filesystem("memory")
    for one in OBJECTS.below(written):
        content = OBJECTS.read(written / one.name, 1 << 20)
        system.pipe_file(f"{root.removeprefix('memory:/')}/{name}/{one.name}", content)
    with pytest.warns(DropdiagWarning) as caught:
        found = load(f"{root}/*")
    assert [run.name for run in (found if hasattr(found, "labels") else [found])] == ["good"]
    assert [f"{root}/{name} is left out" in str(one.message) for one in caught] == [True]
    assert CliRunner().invoke(app, ["ls", root]).exit_code == 1


def test_runs_are_opened_by_condition_and_by_catalog_and_from_the_terminal(tmp_path, root):
    for condition in ("Dropout", "None"):
        for seed in range(2):
            train(f"{root}/{condition.lower()}-{seed}", condition, seed)
    found = load({"A": f"{root}/dropout-*", "B": [f"{root}/none-0", f"{root}/none-0"]})
    assert [(run.condition, run.name) for run in found] == [("A", "dropout-0"), ("A", "dropout-1"), ("B", "none-0")]
    assert Catalog(root).table["path"].tolist() == ["dropout-0", "dropout-1", "none-0", "none-1"]
    for arguments, wanted in {
        ("ls", root): "none-1",
        ("show", f"{root}/none-1"): "completed",
        ("compare", f"A={root}/dropout-*", f"B={root}/none-*"): "left out: no run holds",
        ("export", f"{root}/none-1", "--to", "csv", "--out", str(tmp_path / "csv")): "scalars.csv",
        ("report", root, "--out", str(tmp_path / "report.html")): "report.html",
    }.items():
        result = CliRunner().invoke(app, arguments)
        code = int(arguments[0] == "compare")  # which leaves out what these runs do not hold
        assert (result.exit_code, wanted in result.output) == (code, True), (arguments, result.output)
    for arguments, wanted in {
        ("sql", root, "--out", str(tmp_path / "sql")): "lies in an object store",
        ("report", root, "--out", f"{root}/report.html"): "give a path without a scheme",
        ("show", f"{root}/non-1"): "did you mean",
    }.items():
        result = CliRunner().invoke(app, arguments)
        assert (result.exit_code, wanted in result.output) == (2, True), (arguments, result.output)
    assert not (tmp_path / "sql").exists()


def test_what_watches_a_store_sees_what_is_new(root):
    path = as_path(f"{root}/run")
    recording = RunWriter(path, fresh())
    before = state(as_path(root))
    assert state(as_path(root)) == before
    record(recording, [1], 1.0)
    assert state(as_path(root)) != before
    recording.close("completed")


def test_a_run_that_another_host_wrote_a_short_while_ago_is_not_resumed(root):
    path = as_path(f"{root}/run")
    recording = RunWriter(path, fresh())
    record(recording, [1], 1.0)
    recording.meta["sessions"][-1]["host"] = "elsewhere"
    recording.save_meta()
    recording.drain()
    with pytest.raises(RunError, match=r"was written \d+ s ago by process .* on 'elsewhere'"):
        resume_step(path, True)
    assert not [name for name in objects(f"{root}/run") if name.endswith(".tmp")]
    written = MEMORY.store[f"{root.removeprefix('memory:/')}/run/run.json"]
    written.modified = datetime.now(timezone.utc) - timedelta(seconds=121)
    assert resume_step(path, True) == 1
    recording.close("failed")


def test_a_path_is_local_unless_it_has_a_scheme(tmp_path, monkeypatch):
    for text in ("runs/a", "C:/runs/a", "C:\\runs\\a", "~/runs", f"file://{tmp_path}/a", "a:b"):
        assert not is_remote(text)
        assert isinstance(as_path(text), Path)
    assert as_path(f"file://{tmp_path}/a") == as_path(upath.UPath(f"file://{tmp_path}/a")) == tmp_path / "a"
    assert str(as_path("memory://runs/a/")) == "memory://runs/a"
    given = as_path(upath.UPath("s3://bucket/runs", endpoint_url="http://127.0.0.1:1"))
    assert given.storage_options["endpoint_url"] == "http://127.0.0.1:1"
    assert as_path("s3://bucket/other", like=given).storage_options == given.storage_options
    with pytest.raises(ArgumentError, match=r"'s3:/bucket/runs'\) was made of a URL"):
        load(Path("s3://bucket/runs"))
    with pytest.raises(RunError, match="nope://x cannot be opened"):
        load("nope://x")
    monkeypatch.setitem(__import__("sys").modules, "upath", None)
    with pytest.raises(RunError, match=r"pip install 'dropdiag\[remote\]' gcsfs"):
        as_path("gs://bucket/runs")


def test_a_place_where_a_file_can_be_seen_in_part_is_not_recorded_to():
    with pytest.raises(RunError, match=r"runs are not recorded at http://"):
        OBJECTS.make_folder(as_path("http://127.0.0.1:1/runs/x"))


def test_a_store_that_refuses_is_an_error_of_one_line(root, monkeypatch):
    class NoCredentialsError(Exception):
        """As clients have them, of no common kind."""

    write(as_path(f"{root}/run"))

    def refuse(*_, **__):
        raise NoCredentialsError("unable to locate credentials")

    monkeypatch.setattr(MEMORY, "info", refuse)
    with pytest.raises(RunError, match="cannot be reached or used: NoCredentialsError: unable to locate credentials"):
        load(f"{root}/run")
    result = CliRunner().invoke(app, ["ls", root])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)


def test_a_run_json_is_replaced_and_sealed_as_on_a_disk(root):
    write(as_path(f"{root}/run"))
    text = fsspec.filesystem("memory").cat_file(f"{root}/run/run.json")
    assert json.loads(text)["sha256"]
    fsspec.filesystem("memory").pipe_file(f"{root}/run/run.json", text.replace(b'"seed": 3', b'"seed": 4'))
    with pytest.warns(DropdiagWarning, match="is not as dropdiag wrote it"):
        assert load(f"{root}/run").seed == 4
