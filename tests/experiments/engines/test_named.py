from __future__ import annotations

import sys

import pytest

from dropdiag.errors import ArgumentError
from dropdiag.experiments.engines.dask import DaskEngine
from dropdiag.experiments.engines.local import LocalEngine, cores
from dropdiag.experiments.engines.named import engine_named
from dropdiag.experiments.engines.slurm import SlurmEngine


def test_each_name_is_an_engine_and_says_where_it_trains():
    described = {
        ("local", 2): "2 at a time",
        ("local", 20): "8 at a time",
        ("dask", 2): "on a Dask cluster of this machine, 2 at a time",
        ("dask:tcp://host:8786", None): "on the Dask cluster at tcp://host:8786",
        ("dask:tcp://host:8786", 3): "on the Dask cluster at tcp://host:8786, 3 at a time",
        ("slurm", None): "as an array of Slurm",
        ("slurm:slurm_partition=gpu", 3): "as an array of Slurm, 3 at a time",
        ("submitit-local", None): "all at a time, as jobs of submitit",
    }
    assert {(name, jobs): engine_named(name, jobs).describe(8) for name, jobs in described} == described


def test_which_ones_train_on_this_machine():
    names = ("local", "dask", "submitit-local", "dask:tcp://host:8786", "slurm")
    assert [engine_named(name).here for name in names] == [True, True, True, False, False]


def test_a_core_each_unless_it_is_said():
    assert engine_named("local").jobs == cores() >= 1


def test_parameters_of_submitit():
    engine = engine_named("slurm:slurm_partition=gpu,gpus_per_node=1,slurm_account=me")
    assert isinstance(engine, SlurmEngine)
    assert engine.parameters == {"slurm_partition": "gpu", "gpus_per_node": 1, "slurm_account": "me"}


@pytest.mark.parametrize("name", ["ray", "", "local:2", "submitit-local:x=1"])
def test_an_unknown_name(name):
    with pytest.raises(
        ArgumentError, match=f"unknown engine '{name}'; the engines are local, dask, dask:ADDRESS, slurm"
    ):
        engine_named(name)


def test_a_parameter_without_a_value():
    with pytest.raises(ArgumentError, match="'gpu' is no PARAMETER=VALUE; write slurm:slurm_partition=gpu"):
        engine_named("slurm:gpu")


@pytest.mark.parametrize(("name", "module", "extra"), [("dask", "distributed", "dask"), ("slurm", "submitit", "slurm")])
def test_what_is_not_installed_is_named_with_its_extra(monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArgumentError, match=rf"the engine '{name}' needs {module}: pip install 'dropdiag\[{extra}\]'"):
        engine_named(name)
    assert isinstance(engine_named("local"), LocalEngine)


def test_a_scheduler_that_does_not_answer(monkeypatch):
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "50ms"}):
        with pytest.raises(ArgumentError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
            list(DaskEngine("tcp://127.0.0.1:9").run([]))
    with pytest.raises(ArgumentError, match="no Dask scheduler answers at nonsense://x"):
        list(DaskEngine("nonsense://x").run([]))
