"""Training as people do it: what each practice means for the numbers, and that it is not disturbed."""

import copy
import warnings
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from dropdiag.probes.histograms import MAX_VALUES
from dropdiag.sketches.thinning import thinned
from tests.networks import batches, mlp, train


def record(model, path, body, **options):
    options = {"probes": "full", "every": 1, "strict": True, **options}
    with dd.Recorder(model, path, **options) as rec:
        body(rec)
        coverage = rec.coverage()
    return dd.load(path), coverage


def values(run, quantity, **where):
    frame = run.scalars[run.scalars["quantity"] == quantity]
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame["value"].to_numpy()


def histogram(tensor):
    return dd.Histogram.from_values(tensor.detach().float().numpy())


class Functional(nn.Module):
    """No activation or dropout module at all."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = F.dropout(F.relu(self.a(x), inplace=True), 0.3, self.training)
        x = torch.tanh(self.b(x))
        x = self.b(x).sigmoid_()
        return self.c(F.gelu(x) + F.gelu(self.b(x), approximate="tanh"))


# Functional calls --------------------------------------------------------------------------------------------


def test_functional_calls_are_attributed_and_change_nothing(tmp_path):
    bare = Functional()
    losses = train(bare, 4)
    state = torch.get_rng_state()
    model = Functional()
    run, coverage = record(model, tmp_path / "run", lambda rec: losses.extend(train(model, 4, rec)))
    assert all(torch.equal(a, b) for a, b in zip(losses[:4], losses[4:], strict=True))
    assert torch.equal(state, torch.get_rng_state())
    functional = {(row.layer, row.call): row.fired for row in coverage if row.functional and row.kind == "activation"}
    names = ["a:relu", "b:tanh", "b:sigmoid", "b:gelu", "b:gelu(approximate='tanh')"]
    assert functional == {(name, 0): 4 for name in names}
    assert [(row.fired, row.dropout) for row in coverage if row.kind == "dropout"] == [(4, "rate 0.3, grain element")]
    assert not coverage.silent
    assert len(values(run, "net_grad_abs_mean", layer="b:gelu(approximate='tanh')")) == 4
    assert run.histogram("net_value", "a:relu").n == 20 * 16
    assert set(run.meta["activations"]) == {name.partition(":")[2] for name in names}


def test_functional_numbers_are_those_of_modules(tmp_path):
    class Modules(Functional):
        def __init__(self):
            super().__init__()
            self.act = nn.Tanh()

        def forward(self, x):
            return self.c(self.act(self.b(self.act(self.a(x)))))

    class Functions(Functional):
        def forward(self, x):
            return self.c(torch.tanh(self.b(self.a(x).tanh())))

    runs = []
    for kind in (Modules, Functions):
        model = kind()
        runs.append(record(model, tmp_path / kind.__name__, lambda rec, model=model: train(model, 3, rec))[0])
    for quantity in ("net_value", "node_value", "net_grad"):
        a, b = (run.histograms(quantity, "all", "train") for run in runs)
        assert a["call"].tolist() == [0, 1] * 3
        assert b["layer"].tolist() == ["a:tanh", "b:tanh"] * 3
        assert a["step"].equals(b["step"])
        assert all(x == y for x, y in zip(a["histogram"], b["histogram"], strict=True))


def test_functional_calls_can_be_left_out(tmp_path):
    model = Functional()
    _, coverage = record(model, tmp_path / "run", lambda rec: train(model, 1, rec), exclude="*:gelu*")
    assert {row.skipped for row in coverage if "gelu" in row.layer} == {"in exclude"}


# Gradient accumulation, scaling, clipping --------------------------------------------------------------------


def test_grad_scaler_is_divided_out_and_skipped_steps_are_flagged(tmp_path):
    flows = {}
    for scale in (1.0, 1024.0):
        model = mlp()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def body(rec, model=model, scaler=scaler, optimizer=optimizer):
            for i, (x, y) in enumerate(batches(4)):
                loss = F.cross_entropy(model(x), y) * (float("inf") if i == 2 else 1.0)
                optimizer.zero_grad()
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                rec.step(loss=loss)

        run, _ = record(model, tmp_path / f"scale-{scale}", body, scaler=scaler)
        flows[scale] = values(run, "net_grad_abs_mean", layer="1")
        assert values(run, "step_skipped").tolist() == [0, 0, 1, 0]
    np.testing.assert_allclose(flows[1.0][:2], flows[1024.0][:2], rtol=1e-6)
    assert not np.isfinite(flows[1.0][2])


def test_clipping_before_and_after_are_told_apart(tmp_path):
    model = mlp()
    seen = {"raw": [], "clipped": []}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def body(rec):
        for x, y in batches(3):
            optimizer.zero_grad()
            for px, py in zip(x.chunk(2), y.chunk(2), strict=True):
                (F.cross_entropy(model(px), py) / 2).backward()
            seen["raw"].append(model[0].weight.grad.double().abs().mean().item())
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            seen["clipped"].append(model[0].weight.grad.double().abs().mean().item())
            optimizer.step()
            rec.step()

    run, _ = record(model, tmp_path / "run", body)
    np.testing.assert_allclose(values(run, "raw_weight_grad_abs_mean", layer="0"), seen["raw"], rtol=1e-9)
    np.testing.assert_allclose(values(run, "weight_grad_abs_mean", layer="0"), seen["clipped"], rtol=1e-9)
    assert seen["clipped"][0] < seen["raw"][0] / 10


def test_gradients_that_were_zeroed_too_early_are_missing_with_a_warning(tmp_path):
    model = mlp()
    x, y = next(batches(1))
    with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
        F.cross_entropy(model(x), y).backward()
        model.zero_grad()
        with pytest.warns(DropdiagWarning, match="before zero_grad"):
            rec.step()
    run = dd.load(tmp_path / "run")
    assert np.isnan(values(run, "weight_grad_abs_mean")).all()
    assert np.isfinite(values(run, "raw_weight_grad_abs_mean")).all()


def test_bf16_autocast_is_recorded_and_not_disturbed(tmp_path):
    def steps(model, rec=None):
        torch.manual_seed(5)
        out = []
        for x, y in batches(3):
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            out.append(loss.detach())
            if rec is not None:
                rec.step(loss=loss)
        return out

    expected, model = steps(mlp()), mlp()
    got = []
    run, _ = record(model, tmp_path / "run", lambda rec: got.extend(steps(model, rec)))
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    bins = run.histogram("net_value", "1", phase="train").bins

    assert len(bins) > 10


def test_half_precision_sums_do_not_overflow(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).to(torch.bfloat16)

    def body(rec):
        out = model(torch.ones(30_000, 4, dtype=torch.bfloat16))
        out.backward(torch.ones_like(out) * 100)
        rec.step()

    run, _ = record(model, tmp_path / "run", body)
    assert np.isfinite(values(run, "net_grad_abs_mean")).all()


# Checkpointing, several passes -------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 16), nn.ReLU())
        self.two = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 3))
        self.reentrant = reentrant

    def forward(self, x):
        if self.reentrant is None:
            return self.two(self.one(x))
        x = x.clone().requires_grad_()
        return checkpoint(self.two, checkpoint(self.one, x, use_reentrant=self.reentrant), use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_passes_count_once(tmp_path, reentrant):
    plain = Checkpointed(None)
    expected, coverage = record(plain, tmp_path / "plain", lambda rec: train(plain, 3, rec))
    model = Checkpointed(reentrant)
    got, counted = record(model, tmp_path / "run", lambda rec: train(model, 3, rec))
    fired = {(row.layer, row.call): row.fired for row in coverage if row.kind == "activation"}
    assert {(row.layer, row.call): row.fired for row in counted if row.kind == "activation"} == fired
    for quantity in ("net_value", "net_grad"):
        a, b = (run.histograms(quantity, "all", "train") for run in (expected, got))
        assert a[["step", "layer", "call"]].equals(b[["step", "layer", "call"]])
        assert all(x == y for x, y in zip(a["histogram"], b["histogram"], strict=True))


class DropsInBlocks(nn.Module):
    """Functional dropouts of two rates, one of them 0, in blocks that are checkpointed."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(12, 12), nn.Linear(12, 12)

        def forward(self, x):
            h = F.dropout(F.dropout(F.gelu(self.fc1(x)), 0.0, self.training), 0.2, self.training)
            return x + F.dropout(self.fc2(h), 0.5, self.training)

    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(12, 12), nn.Linear(12, 3)
        self.blocks, self.reentrant = nn.ModuleList(self.Block() for _ in range(2)), reentrant

    def forward(self, x):
        x = self.first(x)
        for block in (*self.blocks, *self.blocks):
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        return self.last(x)


def train_on_two_passes(model, rec):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(0)
    for x, y in batches(12):  # more steps than are looked at closely
        loss = F.cross_entropy(model(x), y) + F.cross_entropy(model(2 * x), y)  # both are open when backward begins
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rec.step()


@pytest.mark.parametrize("reentrant", [True, False])
def test_functional_dropouts_under_checkpoints_are_those_without(tmp_path, reentrant):
    rows = []
    for kind in (None, reentrant):
        model = DropsInBlocks(kind)
        run, coverage = record(model, tmp_path / f"{kind}", lambda rec, model=model: train_on_two_passes(model, rec))
        wanted = ["dropout_rate", "dropped_share", "dropout_noise_to_signal", "net_grad_abs_mean"]
        frame = run.scalars[run.scalars["quantity"].isin(wanted)].sort_values(["layer", "call", "quantity", "step"])
        rows.append((frame[["layer", "call", "quantity", "step", "value"]].reset_index(drop=True), run.order))
        assert not coverage.silent
    pd.testing.assert_frame_equal(rows[0][0], rows[1][0], rtol=1e-6)
    assert rows[0][1] == rows[1][1]
    rates = rows[0][0].query("quantity == 'dropout_rate'").groupby(["layer", "call"])["value"].unique()
    # The first call of all has no site yet, as its rate is 0: it is counted all the same.
    assert {place: list(found) for place, found in rates.items()} == {
        (f"blocks.{block}.{layer}:dropout", call): [rate]
        for block in (0, 1)
        for layer, expected in (("fc1", [0.0, 0.2, 0.0, 0.2]), ("fc2", [0.5, 0.5]))
        for call, rate in enumerate(expected)
    }


class CheckpointsItsMethod(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.drop, self.reentrant = nn.Linear(12, 16), nn.Linear(16, 3), nn.Dropout(0.2), reentrant

    def body(self, x):
        return F.dropout(self.drop(torch.tanh(self.a(x))), 0.4, self.training)

    def forward(self, x):
        return self.b(checkpoint(self.body, x.clone().requires_grad_(), use_reentrant=self.reentrant))


def test_functions_under_a_checkpoint_of_no_module_are_recorded_or_told(tmp_path):
    model = CheckpointsItsMethod(reentrant=False)
    _, coverage = record(model, tmp_path / "run", lambda rec: train(model, 2, rec))
    sites = {"a:tanh": 2, "drop": 2, "a:dropout": 2}
    assert {row.layer: row.fired for row in coverage if row.layer in sites} == sites
    model = CheckpointsItsMethod(reentrant=True)
    with pytest.warns(DropdiagWarning) as said:
        _, coverage = record(model, tmp_path / "missed", lambda rec: train(model, 2, rec))
    assert len(said) == 2
    assert "were not seen when they ran again: they are missing; use checkpoint" in str(said[0].message)
    assert "no recorded forward pass went through a:tanh" in str(said[1].message)
    missing = {"a:tanh": 0, "a:dropout": 0}
    assert {row.layer: row.fired for row in coverage if row.layer in sites} == sites | missing


def test_optimisers_with_closures(tmp_path):
    def fit(model, rec=None):
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=3)
        x, y = next(batches(1))

        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        torch.manual_seed(0)
        for _ in range(2):
            optimizer.step(closure)
            if rec is not None:
                rec.step()
        return [p.detach().clone() for p in model.parameters()]

    expected, model = fit(mlp()), mlp()
    got = []
    run, _ = record(model, tmp_path / "run", lambda rec: got.extend(fit(model, rec)))
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert run.meta["steps"] == 2
    assert run.histogram("net_value", "1", step=1, phase="train").n % (20 * 16) == 0


# Parameters --------------------------------------------------------------------------------------------------


def test_parametrised_weights_are_the_effective_ones_and_stay_what_they_are(tmp_path):
    def build():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(12, 16)),
            nn.Tanh(),
            nn.utils.parametrizations.spectral_norm(nn.Linear(16, 3)),
        )

    bare, model = build(), build()
    losses = train(bare, 3)
    got = []
    run, coverage = record(model, tmp_path / "run", lambda rec: got.extend(train(model, 3, rec)))
    for a, b in zip([*losses, *bare.state_dict().values()], [*got, *model.state_dict().values()], strict=True):
        assert torch.equal(a, b)
    model.eval()
    assert run.histogram("weight", "0") == histogram(model[0].weight)
    assert run.histogram("weight", "2") == histogram(model[2].weight)
    assert sum(row.skipped == "part of a parametrisation; the effective weight is recorded" for row in coverage) >= 3


def test_old_weight_norm_records_the_effective_weight(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(nn.utils.weight_norm(nn.Linear(12, 16)), nn.Tanh(), nn.Linear(16, 3))
    run, coverage = record(model, tmp_path / "run", lambda rec: train(model, 1, rec))
    assert {row.layer for row in coverage if row.kind == "weight" and row.expected} == {"0", "2"}
    assert run.histogram("weight", "0", step=1).n == 12 * 16


def test_sparse_gradients_count_their_zeros(tmp_path):
    model = nn.Sequential(nn.Embedding(50, 4, sparse=True), nn.Tanh())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    means = []

    def body(rec):
        for ids in (torch.tensor([1, 1, 7]), torch.tensor([3, 4, 3])):
            optimizer.zero_grad()
            model(ids).pow(2).sum().backward()
            means.append(model[0].weight.grad.to_dense().double().abs().mean().item())
            optimizer.step()
            rec.step()

    run, _ = record(model, tmp_path / "run", body)
    np.testing.assert_allclose(values(run, "weight_grad_abs_mean", layer="0"), means, rtol=1e-9)
    assert run.histogram("weight_grad", "0", step=2).zeros == 48 * 4


def test_frozen_then_unfrozen_weights(tmp_path):
    model = mlp()
    model[0].weight.requires_grad_(False)

    def body(rec):
        train(model, 1, rec)
        model[0].weight.requires_grad_(True)
        train(model, 1, rec)

    run, _ = record(model, tmp_path / "run", body)
    assert np.isnan(values(run, "weight_grad_abs_mean", layer="0")).tolist() == [True, False]


def test_lazy_and_meta_modules_are_recorded_once_they_have_values(tmp_path):
    model = nn.Sequential(nn.LazyLinear(16), nn.Tanh(), nn.Linear(16, 3, device="meta"))

    def body(rec):
        model[2].to_empty(device="cpu")
        nn.init.normal_(model[2].weight)
        nn.init.zeros_(model[2].bias)
        model(torch.randn(2, 12))
        train(model, 2, rec)

    run, coverage = record(model, tmp_path / "run", body)
    assert sorted(run.histograms("weight", "all").query("layer == '0'")["step"]) == [1, 2]
    assert run.histogram("weight", "2") == histogram(model[2].weight)
    assert not coverage.silent


def test_functional_call_and_a_moving_average_copy(tmp_path):
    model = mlp()

    def body(rec):
        average = copy.deepcopy(model)
        parameters = {name: p * 2 for name, p in model.named_parameters()}
        x, y = next(batches(1))
        average(x)
        F.cross_entropy(torch.func.functional_call(model, parameters, x), y).backward()
        rec.step()

    run, _ = record(model, tmp_path / "run", body)
    assert run.histogram("net_value", "1", phase="train").n == 20 * 16


# Layer types -------------------------------------------------------------------------------------------------


def test_recurrent_layers_record_their_outputs_packed_or_not(tmp_path):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.lstm, self.gru, self.out = (
                nn.LSTM(5, 7, batch_first=True),
                nn.GRU(7, 6, batch_first=True),
                nn.Linear(6, 2),
            )

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            hidden, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
            return self.out(self.gru(hidden)[0])

    model = Packed()
    x, lengths = torch.randn(3, 6, 5), torch.tensor([6, 2, 4])

    def body(rec):
        model(x, lengths).sum().backward()
        rec.step()
        model.eval()
        with rec.evaluation():
            model(x, lengths)

    run, coverage = record(model, tmp_path / "run", body)
    assert run.histogram("node_value", "lstm", phase="train").n == 12 * 7  # padding is not counted
    assert run.histogram("node_value", "gru", phase="train").n == 18 * 6
    assert values(run, "node_correlation_samples", layer="lstm").tolist() == [12]
    assert values(run, "node_correlation_width", layer="lstm").tolist() == [7]
    assert not coverage.silent
    weights = {row.layer for row in coverage if row.kind == "weight" and row.expected}
    assert {"lstm.weight_ih_l0", "lstm.weight_hh_l0", "out"} <= weights


def test_attention_and_its_weights(tmp_path):
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    x = torch.randn(2, 5, 8)

    def body(rec):
        model(x).sum().backward()
        rec.step()

    run, coverage = record(model, tmp_path / "run", body)
    assert not coverage.silent
    assert run.histogram("node_value", "self_attn", phase="train").n == 2 * 5 * 8
    assert run.histogram("net_value", "linear1:gelu", phase="train").n == 2 * 5 * 16
    assert np.isfinite(values(run, "weight_grad_abs_mean", layer="self_attn.out_proj")).all()


def test_the_fused_encoder_is_untouched_outside_of_evaluations(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 2))
    x = torch.randn(2, 5, 8)
    model.eval()
    with torch.no_grad():
        expected = model(x)
        with dd.Recorder(model, tmp_path / "run", probes="full", strict=True) as rec:
            assert torch.equal(model(x), expected)
            with rec.evaluation():
                torch.testing.assert_close(model(x), expected)
            coverage = rec.coverage()
    fired = {row.layer for row in coverage if row.functional and row.fired}
    assert fired == {"0.layers.0.linear1:relu", "0.layers.1.linear1:relu"}


def test_gated_units_give_the_gates_net_value(tmp_path):
    model = nn.Sequential(nn.Linear(12, 10), nn.GLU())
    x = torch.randn(6, 12)

    def body(rec):
        model(x).pow(2).sum().backward()
        rec.step()

    run, _ = record(model, tmp_path / "run", body)
    z = model[0](x)
    assert run.histogram("net_value", "1", phase="train") == histogram(z.chunk(2, -1)[1])
    a, b = z.detach().chunk(2, -1)
    b = b.double().requires_grad_()
    (a.double() * b.sigmoid()).pow(2).sum().backward()
    np.testing.assert_allclose(values(run, "net_grad_abs_mean"), [b.grad.abs().mean().item()], rtol=1e-5)
    assert run.meta["activations"]["GLU(dim=-1)"]["sup"] == 0.25


def test_channels_are_nodes_and_positions_samples(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)).to(
        memory_format=torch.channels_last
    )
    x = torch.randn(5, 3, 8, 8).to(memory_format=torch.channels_last)

    def body(rec):
        model(x).sum().backward()
        rec.step()
        model.eval()
        with rec.evaluation():
            body.h = model(x).detach()

    run, _ = record(model, tmp_path / "run", body)
    flat = body.h.movedim(1, -1).reshape(-1, 4).double().numpy()
    r = np.corrcoef(flat, rowvar=False)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(values(run, "node_correlation_abs_mean"), [np.abs(r).mean()], rtol=1e-6)
    assert values(run, "node_correlation_samples").tolist() == [5 * 36]


def test_containers_as_outputs_and_keyword_inputs(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.act = nn.Linear(12, 8), nn.Tanh()

        def forward(self, x):
            return {"out": (self.act(input=self.a(x)), None)}

    model = Net()

    def body(rec):
        model(torch.randn(4, 12))["out"][0].sum().backward()
        rec.step()

    run, _ = record(model, tmp_path / "run", body)
    assert run.histogram("net_value", "act", phase="train").n == 32
    assert np.isfinite(values(run, "net_grad_abs_mean")).all()


# Large tensors -----------------------------------------------------------------------------------------------


def test_large_tensors_are_sampled_without_random_numbers_and_means_stay_exact(tmp_path):
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh())
    x = torch.randn(3 * 4096, 8)
    state = torch.get_rng_state()

    def body(rec):
        body.z = model[0](x)
        out = model[1](body.z)
        body.z.retain_grad()
        out.pow(2).sum().backward()
        rec.step()

    with pytest.warns(DropdiagWarning, match="parts of the model were called without calling the model"):
        run, coverage = record(model, tmp_path / "run", body)
    (stride,) = values(run, "net_value_stride").astype(int)
    assert torch.equal(torch.get_rng_state(), state)
    sample, every = thinned(body.z, MAX_VALUES)
    assert (stride, every, len(sample)) == (3, 3, 2**18)
    assert run.histogram("net_value", "1") == histogram(sample)
    np.testing.assert_allclose(values(run, "net_grad_abs_mean"), [body.z.grad.double().abs().mean().item()], rtol=1e-9)
    assert [row.sampled for row in coverage if row.layer == "1"] == ["1 in 3 values"]


# What must not end the training ------------------------------------------------------------------------------


class Crooked(nn.Module):
    """A registered activation that is not elementwise."""

    def forward(self, x):
        return x @ x.new_ones(x.shape[-1], x.shape[-1]) if x.ndim == 2 else x.reshape(-1, 7)


def test_an_activation_that_cannot_be_measured_is_recorded_without_saturation(tmp_path):
    from dropdiag.model import activations

    dd.register_activation(Crooked)
    try:
        model = nn.Sequential(nn.Linear(12, 3), Crooked())
        with pytest.warns(DropdiagWarning, match="the derivative of Crooked cannot be measured"):
            rec = dd.Recorder(model, tmp_path / "run", every=1)
        with rec:
            train(model, 2, rec)
    finally:
        del activations._KNOWN[Crooked]
    run = dd.load(tmp_path / "run")
    assert run.histogram("net_value", "1", phase="train").n == 20 * 3
    assert "saturation_share_left" not in set(run.scalars["quantity"])


def test_a_failed_interception_warns_once_and_training_goes_on(tmp_path, monkeypatch):
    from dropdiag.recording import functional

    def broken(name, phi):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(functional, "describe_function", broken)
    model = Functional()
    rec = dd.Recorder(model, tmp_path / "run", every=1)
    with pytest.warns(DropdiagWarning, match="functional calls are not recorded any more.*no such luck") as caught:
        train(model, 3, rec)
    rec.close()
    assert len(caught) == 1
    assert dd.load(tmp_path / "run").meta["steps"] == 3


# Ways of calling a model -------------------------------------------------------------------------------------


def test_parts_called_without_the_model_are_pooled_with_a_warning(tmp_path):
    model = mlp()
    x = next(batches(1, n=60))[0]
    rec = dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True)
    with pytest.warns(DropdiagWarning, match="pooled as call 0"):
        for part in x.split(20):
            h = part
            for layer in model:
                h = layer(h)
            (h.sum() / 3).backward()
        rec.step()
    rec.close()
    run = dd.load(tmp_path / "run")
    assert run.histogram("net_value", "1", phase="train").n == 60 * 16
    assert run.scalars["call"].unique().tolist() == [0]


def test_training_in_evaluation_mode_is_named(tmp_path):
    model = mlp().eval()
    rec = dd.Recorder(model, tmp_path / "run", every=1)
    with pytest.warns(DropdiagWarning, match=r"call model\.train\(\) before training"):
        train(model, 2, rec)
    with pytest.warns(DropdiagWarning, match="no recorded forward pass went through 1, 4, 7"):
        rec.close()


def test_dropout_left_on_in_an_evaluation_is_named(tmp_path):
    model = mlp().eval()
    model[2].train()
    with dd.Recorder(model, tmp_path / "run") as rec:
        with (
            pytest.warns(DropdiagWarning, match="a dropout was active inside evaluation 'eval'"),
            rec.evaluation(),
        ):
            model(next(batches(1))[0])


def test_activations_of_parameters_leave_no_hook_behind(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.raw, self.body, self.act = nn.Parameter(torch.zeros(3)), mlp(), nn.Softplus()

        def forward(self, x):
            return self.body(x) * self.act(self.raw)

    model = Scaled()
    run, _ = record(model, tmp_path / "run", lambda rec: train(model, 5, rec))
    assert not model.raw._backward_hooks
    counts = run.histograms("net_grad", "all").query("layer == 'act'")["histogram"].apply(lambda h: h.n)
    assert counts.tolist() == [3] * 5


def test_passes_inside_function_transforms_are_named_and_not_recorded(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    parameters = dict(model.named_parameters())

    def loss(p, x):
        return torch.func.functional_call(model, p, x).sum()

    with pytest.warns(DropdiagWarning, match="inside torch.func transforms"):
        with dd.Recorder(model, tmp_path / "run", every=1, strict=True) as rec:
            torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, torch.randn(5, 4))
            model(torch.randn(3, 4)).sum().backward()
            rec.step()
    assert dd.load(tmp_path / "run").histogram("net_value", "1", phase="train").n == 12


def test_convolutions_and_linears_tell_nodes_by_what_ran_last(tmp_path):
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.conv, self.out = nn.ReLU(), nn.Conv1d(3, 6, 3), nn.Linear(18, 4)

        def forward(self, x):
            return self.act(self.out(self.act(self.conv(x))))

    model = Mixed().eval()
    with dd.Recorder(model, tmp_path / "run") as rec, rec.evaluation(), torch.no_grad():
        model(torch.randn(5, 3, 20))
    widths = dd.load(tmp_path / "run").scalars.query("quantity == 'node_correlation_width'")
    assert widths[["call", "value"]].to_numpy().tolist() == [[0, 6], [1, 4]]


def test_activations_of_one_name_and_two_functions_have_two_areas(tmp_path):
    class Steep(nn.Module):
        def __init__(self, a):
            super().__init__()
            self.a = a

        def forward(self, x):
            return torch.tanh(self.a * x)

    from dropdiag.model import activations

    dd.register_activation(Steep)
    try:
        model = nn.Sequential(nn.Linear(12, 4), Steep(1.0), nn.Linear(4, 4), Steep(5.0), nn.Linear(4, 3), Steep(1.0))
        run, _ = record(model, tmp_path / "run", lambda rec: train(model, 1, rec))
    finally:
        del activations._KNOWN[Steep]
    areas = {name: a["right"][0][0] for name, a in run.meta["activations"].items()}
    assert areas == pytest.approx({"Steep": 1.8184464592, "Steep#2": 0.3636892918})
    names = run.layers.query("kind == 'activation'")["activation"].tolist()
    assert names == ["Steep", "Steep#2", "Steep"]


def test_gaaf_takes_bases_that_work_in_place_or_learn():
    x = torch.tensor([-0.2, -0.1, 0.3], requires_grad=True)
    dd.GAAF(nn.ReLU(inplace=True), shape="shifted_sigmoid")(x * 1).sum().backward()
    s = torch.sigmoid(6 * (x.detach() + 0.5))
    torch.testing.assert_close(x.grad, (x.detach() > 0) + s, rtol=1e-3, atol=1e-3)
    from dropdiag.model.activations import describe

    assert describe(dd.GAAF(nn.PReLU(), shape="gaussian")) is None
    assert describe(dd.GAAF(nn.LeakyReLU(0.5), shape="gaussian")).left == ()


def test_gradients_of_views_that_are_overwritten_are_right(tmp_path):
    class Tokens(nn.Module):
        """A Linear on three dimensions gives a view; in place on it, autograd rewrites the view's history."""

        def __init__(self, inplace):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.act = nn.Linear(6, 8), nn.Linear(8, 4), nn.SiLU(inplace=inplace)
            self.inplace = inplace

        def forward(self, x):
            return F.elu(self.b(self.act(self.a(x))), inplace=self.inplace)

    runs = []
    for inplace in (False, True):
        model = Tokens(inplace)

        def body(rec, model=model):
            model(torch.linspace(-2, 2, 60).reshape(2, 5, 6)).pow(2).sum().backward()
            rec.step()

        runs.append(record(model, tmp_path / str(inplace), body)[0])
    flows = [values(run, "net_grad_abs_mean") for run in runs]
    assert np.isfinite(flows[0]).all()
    np.testing.assert_allclose(flows[0], flows[1], rtol=1e-6)


def test_a_function_of_ones_own_is_recorded_once_registered(tmp_path):
    @dd.register_activation
    def swish(x, beta=1.0):
        return x * torch.sigmoid(beta * x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(12, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(swish(self.a(x), beta=2.0))

    try:
        bare, model, losses = Net(), Net(), []
        expected = train(bare, 2)
        run, coverage = record(model, tmp_path / "run", lambda rec: losses.extend(train(model, 2, rec)))
    finally:
        from dropdiag.recording import functional

        del functional.FUNCTIONS[swish]
    assert all(torch.equal(a, b) for a, b in zip(expected, losses, strict=True))
    assert [row.layer for row in coverage if row.kind == "activation"] == ["a:swish(beta=2)"]
    assert run.meta["activations"]["swish(beta=2)"]["sup"] == pytest.approx(1.0998393)
    assert np.isfinite(values(run, "net_grad_abs_mean")).all()


# Padding -----------------------------------------------------------------------------------------------------


def test_padding_is_left_out_of_values_and_gradients(tmp_path):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    x = torch.randn(3, 5, 4)
    mask = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]

    def body(rec):
        with rec.padding(mask):
            out = model(x)
        out[mask].pow(2).sum().backward()
        rec.step()
        model.eval()
        with rec.evaluation(), rec.padding(mask):
            model(x)
        with pytest.raises(
            dd.DropdiagError, match=r"boolean tensor of shape \(batch, tokens\).*got \(3, 5\), torch.int64"
        ):
            with rec.padding(mask.long()):
                pass

    run, coverage = record(model, tmp_path / "run", body)
    assert [row.sampled for row in coverage if row.layer == "1"] == ["padding left out"]
    assert run.histogram("net_value", "1", phase="train").n == 10 * 6
    assert run.histogram("net_grad", "1").n == 10 * 6
    assert values(run, "node_correlation_samples").tolist() == [10]
    z = model[0](x)[mask].detach().requires_grad_()
    model[2](torch.tanh(z)).pow(2).sum().backward()
    np.testing.assert_allclose(values(run, "net_grad_abs_mean"), [z.grad.double().abs().mean().item()], rtol=1e-6)


def test_coverage_says_where_padding_is_counted(tmp_path):
    class Pooled(nn.Module):
        """Activations of tokens, of all tokens in a row, and of one vector for each text."""

        def __init__(self):
            super().__init__()
            self.a, self.tokens, self.row, self.text = nn.Linear(4, 6), nn.Tanh(), nn.Tanh(), nn.Tanh()

        def forward(self, x):
            h = self.tokens(self.a(x))
            return self.row(h.flatten(0, 1)).sum() + self.text(h.mean(1)).sum()

    model, mask = Pooled(), torch.arange(5) < torch.tensor([5, 2, 3])[:, None]

    def body(rec):
        for masked in (True, True, False):
            with rec.padding(mask) if masked else nullcontext():
                model(torch.randn(3, 5, 4)).backward()
            rec.step()

    _, coverage = record(model, tmp_path / "run", body, every=2)
    words = {row.layer: row.sampled for row in coverage if row.kind == "activation"}
    assert words == {"tokens": "padding left out of 2 in 3 passes", "row": "padding counted", "text": None}


# Dropout that is listed, models whose modules were exchanged -------------------------------------------------


@pytest.mark.filterwarnings("ignore:no activation function is known")
def test_dropout_inside_attention_has_its_rate_recorded(tmp_path):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, -1)
            return F.scaled_dot_product_attention(q, k, v, dropout_p=0.25 if self.training else 0.0)

    model = Attention()

    def body(rec):
        model(torch.randn(2, 5, 8)).sum().backward()
        rec.step()

    run, coverage = record(model, tmp_path / "run", body)
    (row,) = [row for row in coverage if row.kind == "dropout"]
    assert (row.layer, row.fired) == ("(model):scaled_dot_product_attention", 1)
    assert row.dropout == "rate 0.25, grain attention weight; rate alone: the mask is drawn inside of the kernel"
    assert list(values(run, "dropout_rate")) == [0.25]
    assert len(values(run, "dropped_share")) == 0


def test_fused_modules_are_named_as_exchanged(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    rec = dd.Recorder(model, tmp_path / "run", every=1)
    model.eval()
    model[0] = nn.utils.fuse_conv_bn_eval(model[0], model[1])
    model[1] = nn.Identity()
    model.train()
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    with pytest.warns(DropdiagWarning, match="found at step 1: exchanged: 0"):
        rec.step()
    rec.close()


def test_parametrisations_that_draw_or_are_cached_are_not_disturbed(tmp_path):
    class Noisy(nn.Module):
        def forward(self, w):
            return w + 0.01 * torch.randn_like(w)

    def fit(model, rec=None):
        torch.manual_seed(3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        out = []
        for x, y in batches(3):
            optimizer.zero_grad()
            with nn.utils.parametrize.cached():
                loss = F.cross_entropy(model(x), y)
                loss.backward()
            optimizer.step()
            out.append(loss.detach())
            if rec is not None:
                rec.step(loss=loss)
        return [*out, *(p.detach().clone() for p in model.parameters()), torch.get_rng_state()]

    def build():
        model = mlp()
        nn.utils.parametrize.register_parametrization(model[0], "weight", Noisy())
        return model

    expected, model, got = fit(build()), build(), []
    record(model, tmp_path / "run", lambda rec: got.extend(fit(model, rec)))
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_a_model_that_calls_itself_is_one_forward_pass(tmp_path):
    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.act = nn.Linear(4, 4), nn.Tanh()

        def forward(self, x, depth=2):
            h = self.act(torch.sigmoid(self.a(x)))
            return self(h, depth - 1) if depth else h

    model = Recursive()

    def body(rec):
        for _ in range(2):
            model(torch.randn(3, 4)).sum().backward()
            rec.step()

    _, coverage = record(model, tmp_path / "run", body)
    fired = {(row.layer, row.call): row.fired for row in coverage if row.kind == "activation"}
    assert fired == {(layer, call): 2 for layer in ("act", "a:sigmoid") for call in range(3)}


def test_two_threads_leave_no_mode_behind(tmp_path):
    import threading
    import time

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x, seconds):
            h = F.relu(self.a(x))
            time.sleep(seconds)
            return torch.tanh(h)

    model, errors = Slow(), []

    def other():
        try:
            model(torch.randn(2, 4), 0)
        except RuntimeError as error:
            errors.append(error)

    before = torch._C._len_torch_function_stack()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        thread = threading.Timer(0.1, other)
        thread.start()
        model(torch.randn(2, 4), 0.4).sum().backward()
        thread.join()
        rec.step()
    assert not errors
    assert torch._C._len_torch_function_stack() == before


def test_exchanged_parameters_are_watched(tmp_path):
    model = mlp()

    def body(rec):
        train(model, 1, rec)
        model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
        train(model, 1, rec)

    run, _ = record(model, tmp_path / "run", body)
    assert np.isfinite(values(run, "raw_weight_grad_abs_mean")).sum() == 2 * 4
