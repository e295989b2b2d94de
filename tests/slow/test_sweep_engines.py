"""A sweep gives the same runs by every engine that this machine has."""

from __future__ import annotations

import pytest

from dropdiag.experiments.sweep.sweep import sweep
from dropdiag.store.reader import load
from tests.experiments.engines.conftest import same_package
from tests.experiments.sweep.conftest import TRAINS

pytestmark = pytest.mark.slow
__all__ = ["same_package"]


def losses(out):
    return load(str(out / "runs" / "*")).select("loss")["value"].tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("engine", ["local", "dask", "submitit-local"])
def test_engines(tmp_path, engine):
    options = {"over": {"rate": [0, 0.5]}, "seeds": 1}
    made = sweep(f"{TRAINS}:well", out=tmp_path / "out", engine=engine, processes=2, **options)
    assert (made.failed, len(made.trained)) == ({}, 2)
    sweep(f"{TRAINS}:well", out=tmp_path / "here", engine="here", **options)
    assert losses(tmp_path / "out") == losses(tmp_path / "here")
