"""The order of execution, as a run keeps it."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import dropdiag as dd

# Networks here are not trained, or are a dropout alone: neither is what they test.
pytestmark = [
    pytest.mark.filterwarnings("ignore:rec.step"),
    pytest.mark.filterwarnings("ignore:no activation function is known"),
]


class Shuffled(nn.Module):
    """Declares its modules in another order than it runs them; its activations are modules or functions."""

    def __init__(self, *, functional: bool) -> None:
        super().__init__()
        self.functional = functional
        self.c, self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 6), nn.Linear(6, 6)
        if not functional:
            self.tanh_b, self.tanh_a = nn.Tanh(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        if self.functional:
            return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))
        return self.c(self.tanh_b(self.b(self.tanh_a(self.a(x)))))


class Layers(nn.Module):
    """Runs those of its layers that are chosen, in this order."""

    def __init__(self, number: int = 5) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(number))
        self.head, self.chosen = nn.Linear(6, 3), list(range(number))

    def forward(self, x: Tensor) -> Tensor:
        for number in self.chosen:
            x = self.layers[number](x)
        return self.head(x)


def meta(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def train(
    model: nn.Module, rec: dd.Recorder, steps: int = 1, call: Callable[[nn.Module, Tensor], Tensor] | None = None
):
    for _ in range(steps):
        x = torch.randn(4, 6)
        (model(x) if call is None else call(model, x)).sum().backward()
        rec.step()


def order(model: nn.Module, folder: Path, steps: int = 2, call=None, **options) -> list[list[str]]:
    """Record some steps; return the order of sites, a call but the first written after its layer."""
    with dd.Recorder(model, folder, every=1, strict=True, **options) as rec:
        train(model, rec, steps, call)
    return named(meta(folder)["order"])


def named(groups: list) -> list[list[str]]:
    return [sorted(layer if call == 0 else f"{layer} {call}" for layer, call in group) for group in groups]


def chain(*layers: str) -> list[list[str]]:
    return [[layer] for layer in layers]


def test_it_is_that_of_running_whatever_was_declared_first_and_whatever_activations_are(tmp_path):
    assert order(Shuffled(functional=True), tmp_path / "functions") == chain("a", "a:tanh", "b", "b:tanh", "c")
    assert order(Shuffled(functional=False), tmp_path / "modules") == chain("a", "tanh_a", "b", "tanh_b", "c")
    for run in ("functions", "modules"):
        rows = [row["layer"] for row in meta(tmp_path / run)["layers"]]
        expected = [layer for (layer,) in named(meta(tmp_path / run)["order"])]
        assert rows[: len(expected)] == expected
        assert list(dict.fromkeys(r["layer"] for r in meta(tmp_path / run)["coverage"])) == rows


def test_stochastic_depth_has_the_order_of_all_passes_not_of_the_first(tmp_path):
    model, chance = Layers(), random.Random(0)
    rec = dd.Recorder(model, tmp_path / "run", every=1, strict=True)
    for chosen in ([1, 2, 3, 4], *([n for n in range(5) if chance.random() < 0.6] for _ in range(9))):
        model.chosen = chosen
        train(model, rec)
    rec.close()
    expected = [f"layers.{n}.{part}" for n in range(5) for part in (0, 1)]
    assert named(meta(tmp_path / "run")["order"]) == chain(*expected, "head")


def test_branches_that_exclude_each_other_share_a_rank(tmp_path):
    model = Layers(4)
    rec = dd.Recorder(model, tmp_path / "run", every=1, strict=True)
    for chosen in ([0, 1, 3], [0, 2, 3], [0, 1, 3]):
        model.chosen = chosen
        train(model, rec)
    rec.close()
    parallel = sorted(f"layers.{n}.{part}" for n in (1, 2) for part in (0, 1))
    start, end = chain("layers.0.0", "layers.0.1"), chain("layers.3.0", "layers.3.1", "head")
    assert named(meta(tmp_path / "run")["order"]) == [*start, parallel, *end]


def test_a_layer_that_first_runs_late_gets_its_place(tmp_path):
    model = Layers(3)
    model.chosen = [0, 2]
    with dd.Recorder(model, tmp_path / "run", every=2, strict=True) as rec:
        train(model, rec, 130)
        before = named(rec._session.writer.meta["order"])
        model.chosen = [0, 1, 2]
        train(model, rec, 3)
        after = named(rec._session.writer.meta["order"])
    assert named(meta(tmp_path / "run")["order"]) == after
    assert before == chain("layers.0.0", "layers.0.1", "layers.2.0", "layers.2.1", "head")
    assert after == chain(*(f"layers.{n}.{part}" for n in range(3) for part in (0, 1)), "head")


def test_a_model_that_is_called_twice_for_one_step_has_the_order_of_one_pass(tmp_path):
    model = Layers(2)
    expected = chain("layers.0.0", "layers.0.1", "layers.1.0", "layers.1.1", "head")
    assert order(model, tmp_path / "run", call=lambda m, x: m(x) + m(-x)) == expected


def test_a_network_inside_that_runs_twice_has_a_place_for_each_call(tmp_path):
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body = nn.Linear(3, 1), nn.Sequential(nn.Linear(6, 3), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            return self.head((self.body(x) - self.body(-x)).relu())

    expected = chain("body.0", "body.1", "body.1 1", "body.0:relu", "head")
    assert order(Siamese(), tmp_path / "run") == expected


@pytest.mark.parametrize("reentrant", [True, False])
def test_passes_that_are_recomputed_do_not_count(reentrant, tmp_path):
    class Recomputed(Layers):
        def forward(self, x: Tensor) -> Tensor:
            h = self.layers[0](x)
            for layer in self.layers[1:]:
                h = checkpoint(layer, h, use_reentrant=reentrant)
            return self.head(h)

    expected = chain(*(f"layers.{n}.{part}" for n in range(3) for part in (0, 1)), "head")
    assert order(Recomputed(3), tmp_path / "run") == expected


def test_weights_of_every_kind_have_a_place_where_their_layer_runs(tmp_path):
    class Kinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = parametrizations.weight_norm(nn.Linear(8, 3))
            self.attend, self.lstm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LSTM(6, 8)
            self.position = nn.Parameter(torch.randn(4, 8))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # the old way, which hooks the forward pass
                self.old = nn.utils.weight_norm(nn.Linear(8, 8))
            self.table = nn.Parameter(torch.randn(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            h = self.lstm(x[:, None])[0][:, 0] + self.position
            h = self.attend(h[None], h[None], h[None])[0][0] @ self.table
            return self.out(self.old(h))

    recurrent = ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm"]
    attention = ["attend.in_proj_weight", "attend.out_proj", "attend"]
    assert order(Kinds(), tmp_path / "run") == chain(*recurrent, "position", *attention, "table", "old", "out")


def test_a_network_that_is_only_evaluated_has_an_order(tmp_path):
    model = Layers(2).eval()
    with dd.Recorder(model, tmp_path / "run", strict=True) as rec, rec.evaluation(), torch.no_grad():
        model(torch.randn(4, 6))
    expected = chain("layers.0.0", "layers.0.1", "layers.1.0", "layers.1.1", "head")
    assert named(meta(tmp_path / "run")["order"]) == expected


def test_parts_that_are_called_by_themselves_have_none_and_it_is_said(tmp_path):
    model = Layers(2)
    with pytest.warns(dd.DropdiagWarning, match="the order in which their layers run is not recorded"):
        assert order(model, tmp_path / "run", call=lambda m, x: m.head(m.layers[1](m.layers[0](x)))) == []


def test_a_run_that_goes_on_goes_on_with_its_order(tmp_path):
    model = Layers(3)
    model.chosen = [0, 2]
    before = order(model, tmp_path / "run", exclude="layers.1.*")
    with dd.Recorder(model, tmp_path / "run", every=1, strict=True, resume=True) as rec:
        assert named(meta(tmp_path / "run")["order"]) == before
        for chosen in ([0, 1], [1, 2]):
            model.chosen = chosen
            train(model, rec)
    expected = chain(*(f"layers.{n}.{part}" for n in range(3) for part in (0, 1)), "head")
    assert named(meta(tmp_path / "run")["order"]) == expected
