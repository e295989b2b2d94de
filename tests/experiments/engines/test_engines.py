"""What every engine keeps: one training that is killed, or exits, is one named failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest
from distributed import LocalCluster

from dropdiag.errors import ArgumentError
from dropdiag.experiments.engines.named import engine_named

from .conftest import ROOT, are_gone, launch, launches, trainings, wait_until

EIGHT = ("well", "well", "by SIGKILL", "well", "well", "os._exit(0)", "well", "well")
ENGINES = ("local", "dask:ADDRESS", "submitit-local")


@pytest.fixture(scope="module")
def cluster():
    """A scheduler in this process, and one worker with two threads that is another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0") as made:
            yield made


@pytest.fixture
def engine(request):
    """The engine of a name, two trainings at a time."""
    name = request.param
    if name.endswith("ADDRESS"):
        name = f"dask:{request.getfixturevalue('cluster').scheduler_address}"
    return engine_named(name, 2)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_of_eight_trainings_one_is_killed_and_one_exits_and_six_are_whole(engine, tmp_path):
    ends = {end.name: end.error for end in engine.run(launches(tmp_path, *EIGHT))}
    assert sorted(ends) == [f"r{i}" for i in range(8)]
    failed = {name: error for name, error in ends.items() if error is not None}
    assert sorted(failed) == ["r2", "r5"]
    assert failed["r2"].startswith("it was killed by signal 9 (SIGKILL): out of memory, perhaps; ")
    assert failed["r5"].startswith("it exited with code 0 before it was over; ")
    whole = sorted(path.parent.name for path in tmp_path.glob("*/whole"))
    assert whole == ["r0", "r1", "r3", "r4", "r6", "r7"]


@pytest.mark.parametrize("engine", [*ENGINES, "dask"], indirect=True)
def test_closing_it_ends_what_is_under_way_and_begins_nothing(engine, tmp_path):
    todo = launches(tmp_path, "well", "wait", "wait", "wait")
    with closing(engine.run(todo)) as ends:
        assert next(ends).name == "r0"
        wait_until(lambda: list(tmp_path.glob("*/waiting")), "a training waits")
    waiting, closed = ({path.parent.name for path in tmp_path.glob(f"*/{file}")} for file in ("waiting", "closed"))
    assert waiting
    assert closed == waiting
    if "submitit" not in engine.describe(4):
        assert len(waiting) <= 2, "two at a time"
    assert [path.parent.name for path in tmp_path.glob("*/whole")] == ["r0"]


def test_one_at_a_time_trains_in_other_processes_as_well(tmp_path):
    ends = list(engine_named("local", 1).run(launches(tmp_path, "well", "by SIGKILL", "well")))
    assert [end.error is None for end in ends] == [True, False, True]


PARENT = """
import sys
from pathlib import Path
from dropdiag.experiments.engines.named import engine_named
from tests.experiments.engines.conftest import launches

if __name__ == "__main__":
    try:
        list(engine_named(sys.argv[1], 2).run(launches(Path(sys.argv[2]), "wait", "wait", "well")))
    except KeyboardInterrupt:
        print("interrupted")
"""


def parent(engine: str, folder) -> subprocess.Popen[str]:
    """A process that trains, two at a time, and both wait."""
    started = subprocess.Popen(
        [sys.executable, "-c", PARENT, engine, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(list(folder.glob("*/waiting"))) == 2, "both trainings wait")
    return started


def test_ctrl_c_ends_the_trainings_and_then_the_parent(tmp_path):
    with parent("local", tmp_path) as started:
        under_way = trainings(tmp_path)
        os.kill(started.pid, signal.SIGINT)
        assert started.communicate()[0] == "interrupted\n"
    assert sorted(path.parent.name for path in tmp_path.glob("*/closed")) == ["r0", "r1"]
    assert not (tmp_path / "r2").exists()
    assert len(under_way) == 2
    assert are_gone(under_way)


@pytest.mark.parametrize("engine", ["local", "dask", "dask:ADDRESS"])
def test_trainings_end_when_their_parent_is_killed(engine, tmp_path, request):
    if engine.endswith("ADDRESS"):
        engine = f"dask:{request.getfixturevalue('cluster').scheduler_address}"
    with parent(engine, tmp_path) as started:
        under_way = trainings(tmp_path)
        started.kill()
        started.communicate()
    wait_until(lambda: len(list(tmp_path.glob("*/closed"))) == 2, "both trainings are closed")
    wait_until(lambda: are_gone(under_way), "their processes are gone")
    assert len(under_way) == 2
    assert not (tmp_path / "r2").exists()


def test_two_launches_of_one_name_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="launches must have names of their own, got several 'r'"):
        list(engine_named("local").run([launch(tmp_path, "r", "well"), launch(tmp_path, "r", "well")]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_nothing_to_train(engine):
    assert list(engine.run([])) == []
