"""Dead nodes, updates and distances of weights, against numpy on tensors that plain code saved."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import dropdiag as dd
from tests.networks import batches, mlp, train

PROBES = ["dead_nodes", "update_to_weight", "distance_from_start", "multiple_correlation"]
WEIGHTS = ("0", "3", "6", "9")


def values(run, quantity, layer, phase="train"):
    rows = run.select(quantity, layer=layer, phase=phase)
    return rows.set_index("step")["value"]


def norm(x):
    return np.linalg.norm(x.astype(np.float64))


class Saved:
    """The weights of a model after each step, as numpy has them."""

    def __init__(self, model, layers=WEIGHTS):
        self._model, self._layers, self.steps = model, layers, []
        self()

    def __call__(self):
        modules = dict(self._model.named_modules())
        self.steps.append({layer: modules[layer].weight.detach().double().numpy().copy() for layer in self._layers})

    def update(self, layer, step):
        before, now = self.steps[step - 1][layer], self.steps[step][layer]
        return norm(now - before) / norm(before)

    def distance(self, layer, step):
        return norm(self.steps[step][layer] - self.steps[0][layer]) / norm(self.steps[0][layer])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_updates_and_distances_are_those_of_the_saved_weights(tmp_path, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 3)).to(dtype)
    saved, optimizer = Saved(model, ("0", "2")), torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=3, strict=True) as rec:
        for x, _ in batches(8):
            optimizer.zero_grad()
            model(x.to(dtype)).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
            rec.step()
            saved()
    run = dd.load(tmp_path / "run")
    for layer in ("0", "2"):
        update, distance = (values(run, name, layer) for name in ("update_to_weight", "distance_from_start"))
        assert (update.index.tolist(), distance.index.tolist()) == ([1, 3, 6], [0, 1, 3, 6, 8])
        np.testing.assert_allclose(update, [saved.update(layer, step) for step in update.index], rtol=1e-12)
        np.testing.assert_allclose(distance, [saved.distance(layer, step) for step in distance.index], rtol=1e-12)
        assert (update > 0).all()
        assert distance[0] == 0.0


def test_what_was_evaluated_or_looked_at_between_steps_does_not_matter(tmp_path):
    model = mlp()
    saved = Saved(model)
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=2, strict=True) as rec:

        def between():
            saved()
            kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            with torch.no_grad():  # averaged weights, say, are put in for an evaluation
                for parameter in model.parameters():
                    parameter.mul_(0.5)
            model.eval()
            with rec.evaluation(), torch.no_grad():
                model(next(batches(1))[0])
            model.load_state_dict(kept)
            model.train()

        train(model, 4, rec, after_step=between)
    run = dd.load(tmp_path / "run")
    for layer in WEIGHTS:
        found = values(run, "update_to_weight", layer)
        np.testing.assert_allclose(found, [saved.update(layer, step) for step in found.index], rtol=1e-12)


def test_a_skipped_step_has_an_update_of_0_and_weights_of_0_have_none(tmp_path):
    model = mlp()
    nn.init.zeros_(model[9].weight)
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        rec.step()  # as of a step that a loss scaler skipped
        train(model, 1, rec)
        train(model, 1, rec)
    run = dd.load(tmp_path / "run")
    assert values(run, "update_to_weight", "0").tolist()[0] == 0.0
    moved = values(run, "update_to_weight", "9")
    assert moved.isna().tolist() == [True, True, False]  # before the third step it is no longer 0
    assert values(run, "distance_from_start", "9").isna().all()


def test_a_resumed_run_has_no_distance_and_says_why(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        train(model, 2, rec)
    saved = Saved(model)
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True, resume=True) as rec:
        train(model, 2, rec, after_step=saved)
        words = {row.layer: row.sampled for row in rec.coverage() if row.kind == "weight"}
    run = dd.load(tmp_path / "run")
    for layer in WEIGHTS:
        assert values(run, "distance_from_start", layer).isna().tolist() == [False, False, False, True, True]
        update = values(run, "update_to_weight", layer)
        np.testing.assert_allclose(update[[3, 4]], [saved.update(layer, step) for step in (1, 2)], rtol=1e-12)
        assert words[layer] == "what it was at step 0 is not known"


def test_a_layer_that_is_exchanged_for_one_of_another_shape_is_missing(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1) as rec, warnings.catch_warnings():
        warnings.simplefilter("ignore", dd.DropdiagWarning)
        train(model, 1, rec)
        model[6], model[9] = nn.Linear(8, 5), nn.Linear(5, 3)
        train(model, 2, rec)
    run = dd.load(tmp_path / "run")
    assert values(run, "update_to_weight", "6").isna().tolist() == [False, True, False]
    assert values(run, "distance_from_start", "6").isna().tolist() == [False, False, True, True]
    assert values(run, "distance_from_start", "0").notna().all()


def test_nothing_is_held_once_the_recorder_is_closed(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        train(model, 1, rec)
        copies = rec._session._weights._earlier._copies
        assert all(len(kept) == len(WEIGHTS) for kept in copies.values())
    assert not any(copies.values())


def test_without_these_probes_no_weight_is_copied(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", every=1, strict=True) as rec:
        train(model, 1, rec)
        assert not any(rec._session._weights._earlier._copies.values())


def of_relu(model):
    """Make some nodes of a ReLU network die: of the first layer 4, of the second none, of the convolution 2."""
    with torch.no_grad():
        model.first.weight[:4] = 0.0
        model.first.bias[:4] = torch.tensor([-1.0, 0.0, -0.25, -3.0])
        model.conv.weight[1:3] = 0.0
        model.conv.bias[1:3] = -0.5
    return model


class Relu(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act1 = nn.Linear(12, 16), nn.ReLU()
        self.conv, self.act2 = nn.Conv1d(1, 5, 3), nn.ReLU6()
        self.last, self.act3 = nn.Linear(70, 8), nn.Tanh()

    def forward(self, x):
        self.z1 = self.first(x)
        self.z2 = self.conv(self.act1(self.z1)[:, None])
        self.z3 = 4.0 * self.last(self.act2(self.z2).flatten(1))
        return self.act3(self.z3)


AREAS = {
    "act1": (lambda z: z <= 0, lambda z: z <= 0),
    "act2": (lambda z: (z <= 0) | (z >= 6), lambda z: (z <= 0) | (z >= 6)),
    "act3": (lambda z: np.abs(z) > 19.07, lambda z: 1 - np.tanh(z) ** 2 <= 0.1),
}


def test_dead_and_always_saturated_nodes_over_all_samples_of_a_phase(tmp_path):
    model = of_relu(Relu())
    x = torch.cat([x for x, _ in batches(4)])
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, every=1, strict=True) as rec:
        model.eval()
        with rec.evaluation(), torch.no_grad():
            for part in x.split(23):
                model(part)
        model.train()
        (model(x[:5]).sum() + model(x[5:9]).sum()).backward()  # two micro-batches are one step
        rec.step()
    run = dd.load(tmp_path / "run")
    for phase, batch, step in (("eval", x, 0), ("train", x[:9], 1)):
        model(batch)
        for place, (layer, areas) in enumerate(AREAS.items(), start=1):
            z = getattr(model, f"z{place}").detach().double().numpy()
            z = np.moveaxis(z, 1, -1).reshape(-1, z.shape[1])
            for quantity, inside in zip(("dead_share", "always_saturated_share"), areas, strict=True):
                expected = inside(z).all(0).mean()
                found = run.select(quantity, layer=layer, phase=phase)
                assert found["step"].unique().tolist() == [step]
                assert found["value"].iloc[0] == pytest.approx(expected, abs=1e-12), (layer, quantity, phase)
    assert values(run, "dead_share", "act1", "eval").item() == 4 / 16
    assert values(run, "dead_share", "act2", "eval").item() == 2 / 5
    assert values(run, "dead_share", "act3", "eval").item() == 0.0


def test_a_network_that_has_diverged_has_no_dead_nodes_to_tell_of(tmp_path):
    model = mlp(activation=nn.ReLU)
    model[0].weight.data[3] = torch.nan
    model.eval()
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, strict=True) as rec, rec.evaluation(), torch.no_grad():
        model(next(batches(1))[0])
    run = dd.load(tmp_path / "run")
    assert values(run, "dead_share", "1", "eval").isna().item()
    assert values(run, "multiple_correlation", "1", "eval").isna().item()


def test_multiple_correlation_over_held_out_data(tmp_path):
    model = mlp().eval()
    x = torch.cat([x for x, _ in batches(15)])
    with dd.Recorder(model, tmp_path / "run", probes=PROBES, strict=True) as rec:
        with rec.evaluation(), torch.no_grad():
            for part in x.split(64):
                model(part)
        with rec.evaluation("few"), torch.no_grad():
            model(x[:12])
    run = dd.load(tmp_path / "run")
    h = torch.tanh(model[0](x)).detach().double().numpy()
    h -= h.mean(0)
    left = [h[:, i] - o @ np.linalg.lstsq(o, h[:, i], rcond=None)[0] for i in range(16) for o in [np.delete(h, i, 1)]]
    squared = 1 - np.square(left).sum(1) / np.square(h).sum(0)
    expected = (1 - (1 - squared) * 299 / (300 - 16)).mean()
    assert values(run, "multiple_correlation", "1", "eval").item() == pytest.approx(expected, abs=1e-6)
    assert values(run, "multiple_correlation_null", "1", "eval").item() == 15 / 299
    for quantity in ("multiple_correlation", "multiple_correlation_null"):
        assert values(run, quantity, "1", "few").isna().item()  # 12 samples of 16 nodes
        assert values(run, quantity, "4", "few").notna().item()
