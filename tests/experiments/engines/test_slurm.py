"""What submitit adds: jobs that are preempted go on, and an array of Slurm, whose commands a test stands in for."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys

import pytest
from submitit import Job

from dropdiag.errors import ArgumentError
from dropdiag.experiments.engines.launch import End
from dropdiag.experiments.engines.named import engine_named
from dropdiag.experiments.engines.slurm import SlurmEngine

from .conftest import launch, launches, trainings, wait_until


def test_a_preempted_job_ends_its_training_and_trains_anew(tmp_path):
    engine = SlurmEngine(cluster="local")
    (job,) = engine.submit([launch(tmp_path, "run", "wait the first time")], tmp_path)
    wait_until((tmp_path / "run" / "waiting").exists, "the training waits")
    (training,) = trainings(tmp_path)
    training.parent().send_signal(signal.SIGUSR2)  # as Slurm does
    assert job.result() == End("run")
    assert (tmp_path / "run" / "closed").exists()
    assert (tmp_path / "run" / "whole").exists()
    events = [json.loads(line) for line in (tmp_path / "launches" / "run.jsonl").read_text().splitlines()]
    assert [event["ended"] for event in events if "ended" in event] == ["interrupted", "completed"]


def test_a_job_whose_own_process_is_killed_is_a_failure_and_its_training_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(Job, "_results_timeout_s", 0)
    engine = SlurmEngine(cluster="local")
    ends = engine.run(launches(tmp_path, "wait", "well"))
    assert next(ends) == End("r1")
    wait_until((tmp_path / "r0" / "waiting").exists, "the training waits")
    (training,) = trainings(tmp_path)
    training.parent().kill()
    (end,) = ends
    assert end.name == "r0"
    assert "ended before it" in str(end.error)
    wait_until((tmp_path / "r0" / "closed").exists, "the training is closed")


SBATCH = """#!{python}
import os, re, subprocess, sys
text = open(sys.argv[1]).read()
with open({record!r}, "a") as file:
    file.write(text)
last = int(re.search(r"--array=0-([0-9]+)", text)[1])
command = text[text.index("-u -m submitit.core._submit"):].split("\\n")[0]
for i in range(last + 1):
    of_slurm = dict(SLURM_JOB_ID=str(100 + i), SLURM_ARRAY_JOB_ID="77", SLURM_ARRAY_TASK_ID=str(i))
    subprocess.Popen(
        f"{python} {{command}}", shell=True, env={{**os.environ, **of_slurm, "SUBMITIT_EXECUTOR": "slurm"}},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
print("Submitted batch job 77")
"""
SACCT = """#!/bin/sh
echo 'JobID|State|NodeList'
if [ -e {ended} ]; then echo '77_[0-9]|CANCELLED|here'; else echo '77_[0-9]|RUNNING|here'; fi
"""
SCANCEL = """#!{python}
import pathlib, signal, sys
import psutil
asked = " ".join(sys.argv[1:])
with open({record!r}, "a") as file:
    file.write(f"scancel {{asked}}\\n")
if "--signal=INT" in asked:
    launchers = [one for one in psutil.process_iter(["cmdline"]) if {jobs!r} in " ".join(one.info["cmdline"] or ())]
    for one in launchers:
        one.send_signal(signal.SIGINT)
    psutil.wait_procs(launchers)
    pathlib.Path({ended!r}).touch()
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands that do as Slurm's, on this machine; the file in which they note what they were asked."""
    record, commands = tmp_path / "asked", tmp_path / "bin"
    commands.mkdir()
    places = {"record": record, "ended": tmp_path / "ended", "jobs": tmp_path / "launches" / "submitit-"}
    for name, text in {"sbatch": SBATCH, "sacct": SACCT, "scancel": SCANCEL, "srun": "#!/bin/sh\n"}.items():
        (commands / name).write_text(text.format(python=sys.executable, **{k: str(v) for k, v in places.items()}))
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return record


def test_slurm_gets_one_array_with_what_was_asked_for(tmp_path, slurm):
    engine = engine_named("slurm:slurm_partition=gpu,timeout_min=90", jobs=2)
    assert engine.describe(3) == "as an array of Slurm, 2 at a time"
    ends = {end.name: end.error for end in engine.run(launches(tmp_path, "well", "by SIGKILL", "well"))}
    assert sorted(ends) == ["r0", "r1", "r2"]
    assert [name for name, error in ends.items() if error is not None] == ["r1"]
    asked = slurm.read_text()
    for line in ("array=0-2%2", "partition=gpu", "time=90", "cpus-per-task=1", "signal=USR2@90", "open-mode=append"):
        assert asked.count(f"#SBATCH --{line}\n") == 1
    assert "scancel" not in asked


def test_an_interrupt_takes_what_waits_from_slurm_and_ends_what_trains(tmp_path, slurm):
    ends = engine_named("slurm").run(launches(tmp_path, "well", "wait"))
    assert next(ends) == End("r0")
    wait_until((tmp_path / "r1" / "waiting").exists, "the training waits")
    ends.close()
    assert (tmp_path / "r1" / "closed").exists()
    asked = [line for line in slurm.read_text().splitlines() if line.startswith("scancel")]
    assert asked == ["scancel --state=PENDING 77_1", "scancel --state=RUNNING --signal=INT 77_1"]


def test_what_slurm_refuses_is_said(tmp_path, slurm):
    (slurm.parent / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    with pytest.raises(ArgumentError, match="slurm takes no jobs: .*invalid partition"):
        list(engine_named("slurm").run(launches(tmp_path, "well")))
    with pytest.raises(ArgumentError, match="slurm takes no jobs: .*'slurm_colour'"):
        list(engine_named("slurm:slurm_colour=red").run(launches(tmp_path, "well")))


def test_without_slurm_it_is_said(tmp_path):
    with pytest.raises(ArgumentError, match='slurm takes no jobs: Could not detect "srun"'):
        list(engine_named("slurm").run(launches(tmp_path, "well")))
