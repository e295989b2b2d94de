"""The README's demo, whole: every table and figure is there, and the claims come out as the README shows them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest


@pytest.mark.slow
def test_the_demo_makes_what_the_readme_shows(tmp_path):
    command = [sys.executable, "-m", "dropdiag.cli", "reproduce", "--seeds", "3", "--epochs", "20", "--out", tmp_path]
    environment = {name: value for name, value in os.environ.items() if name != "DROPDIAG_DATA"}
    subprocess.run(command, check=True, env=environment)
    assert (tmp_path / "index.html").is_file()
    figures = {path.stem for path in Path(tmp_path).rglob("*.png")}
    assert {"weights", "correlation", "gradient_flow", "saturation", "net_variance", "gaaf", "learning"} <= figures
    shares = pd.read_csv(next(Path(tmp_path).rglob("saturation.csv")))
    upper = shares[shares["layer"].isin(sorted(shares["layer"].unique())[1:])].groupby("condition")["share"].mean()
    # The README's picture: with dropout about half of the net values of layers 2 and 3, without about a third.
    assert 0.40 < upper["Dropout"] < 0.60
    assert 0.25 < upper["No dropout"] < 0.42
