"""Runs of every released schema: read, gone on in, compacted; a newer one is refused."""

import json
import shutil
import warnings
from pathlib import Path

import pytest

import dropdiag as dd
from dropdiag.errors import RunError
from dropdiag.store.folder import resume_step
from dropdiag.store.schema import SCHEMA_VERSION
from dropdiag.store.writer import RunWriter
from tests.faults.reading import command, seen
from tests.faults.scenes import META, record

SCHEMAS = Path(__file__).parents[1] / "frozen" / "schemas"
RUNS = sorted(file for file in SCHEMAS.glob("*/*.json"))


def expected(file):
    return {(row[1], (row[0], *row[2:7]), row[7]) for row in json.loads(file.read_text(encoding="utf-8"))}


@pytest.fixture(params=RUNS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def frozen(request, tmp_path):
    """A copy of a run, and every row that its Recorder handed to the writer."""
    path = tmp_path / "run"
    shutil.copytree(request.param.with_suffix(""), path)
    return path, expected(request.param)


def test_there_are_runs_of_every_schema():
    assert {file.parent.name for file in RUNS} == {str(schema) for schema in range(1, SCHEMA_VERSION + 1)}


def test_a_run_of_each_schema_is_read_row_by_row(frozen):
    path, rows = frozen
    found = seen(path)
    assert (found.foreign, set(found.rows), found.doubled) == ([], rows, [])
    assert len(found.rows) == len(rows) > 10
    assert found.told == []
    assert found.derivatives.keys() == {"Tanh"}
    for arguments in (("show", path), ("ls", path.parent)):
        assert command(*arguments)[1:] == (0, "")


def go_on_training(path):
    """Record two steps more with a Recorder; return the first of them."""
    import torch

    from tests.faults.training import network, one_step

    model = network(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with dd.Recorder(model, path, every=1, resume="force") as recorder:
        first = recorder.completed + 1
        for step in (first, first + 1):
            one_step(recorder, model, optimizer, 1, step)
    return first


def go_on_with_ranks(path):
    """Record two steps more on each rank; return the first of them."""
    told, start = json.loads((path / "run.json").read_bytes()), resume_step(path, "force")
    meta = {**META, "id": told["id"], "steps": start, "activations": {}}
    writers = [
        RunWriter(path, {**meta, "ranks": {**told["ranks"], "rank": rank}}, rank=rank, resume_from=start,
                  session={"id": "second", "world_size": 2}, counts=True)
        for rank in range(2)
    ]  # fmt: skip
    record(writers, 1, range(start + 1, start + 3), derivatives=False)
    for writer in reversed(writers):
        writer.close("completed")
    return start + 1


def test_a_run_of_each_schema_goes_on_and_is_compacted(frozen):
    path, rows = frozen
    before = seen(path)
    first = (go_on_with_ranks if (path / "rank-1").exists() else go_on_training)(path)
    found = seen(path)
    assert (found.foreign, found.doubled) == ([], [])
    assert rows <= set(found.rows)
    assert {key[1] for _, key, _ in set(found.rows) - rows} >= {first, first + 1}
    assert found.derivatives.items() >= before.derivatives.items()
    for table in ("scalars", "histograms"):
        assert len(list(path.glob(f"rank-0/{table}-*"))) == len(found.meta["sessions"])
    assert found.meta["schema"] == SCHEMA_VERSION


@pytest.mark.parametrize("schema", [SCHEMA_VERSION + 1, 99, 0, -1, "3", 2.5, None, True])
def test_another_schema_is_refused_in_one_sentence(tmp_path, schema):
    path = tmp_path / "run"
    shutil.copytree(SCHEMAS / "2" / "completed", path)
    file = path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "schema": schema, "versions": {"dropdiag": "9.1"}}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RunError) as error:
            dd.load(path)
    assert "schema" in str(error.value)
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        assert "read it with the version that wrote it: 9.1" in str(error.value)
