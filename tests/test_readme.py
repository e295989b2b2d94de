"""The code of the README and of the tour runs as it stands."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dropdiag.experiments.mnist.network import build

ROOT = Path(__file__).parents[1]


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def test_the_loop_and_the_reading_run_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (loop, comparing), (reading, why, gaaf) = blocks("README.md"), blocks("docs/tour.md")
    for folder, condition in {"dropout": "Dropout", "base": "No dropout"}.items():
        for seed in (0, 1):
            model = build(condition, seed, widths=(12, 8, 8, 8, 3))
            generator = torch.Generator().manual_seed(seed)
            x = torch.randn(60, 12, generator=generator)
            y = torch.randint(3, (60,), generator=generator)
            names = {
                "F": F,
                "model": model,
                "opt": torch.optim.SGD(model.parameters(), lr=0.1),
                "loader": list(zip(x.split(20), y.split(20), strict=True)),
                "test": lambda model, x=x: model(x),
            }
            code = loop.replace("dropout-s0", f"{folder}-s{seed}").replace('"seed": 0', f'"seed": {seed}')
            exec(code, names)  # noqa: S102 - the README's own code
    names = {"dd": names["dd"]}
    exec(comparing, names)  # noqa: S102
    assert (tmp_path / "report.html").is_file()
    exec(reading, names)  # noqa: S102
    assert names["runs"].conditions == ["No dropout", "Dropout"]
    assert len(names["run"].scalars) > 0
    dd, model = names["dd"], build("Dropout", 0, widths=(12, 8, 8, 8, 3))
    with dd.Recorder(model, "runs/why") as rec:
        F.cross_entropy(model(x), y).backward()
        rec.step()
        exec(why, {"dd": dd, "rec": rec, "model": model, "x": x, "y": y, "batch": x, "F": F})  # noqa: S102
    assert {"ensemble", "flatness", "ablation"} <= set(dd.load("runs/why").scalars["phase"])
    names = {"dd": names["dd"], "nn": nn, "model": build("Dropout", 0, widths=(12, 8, 8, 8, 3)), "batch": x}
    exec(gaaf, names)  # noqa: S102
    assert [type(swap.after) for swap in names["done"].swaps] == [names["dd"].GAAF] * 3


def test_every_link_and_picture_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) >= 5
    missing = [link for link in links if not (ROOT / link).exists()]
    if missing:
        pytest.fail(f"the README points to what is not there: {missing}")
