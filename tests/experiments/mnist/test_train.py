from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dropdiag import analysis
from dropdiag.errors import ArgumentError
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.mnist.network import build
from dropdiag.experiments.mnist.train import EVALUATION_BATCH, MnistSettings, Patience, as_inputs, prepare, train
from dropdiag.experiments.training import evaluate
from dropdiag.store.reader import load

SMALL = (784, 12, 8, 8, 10)


def settings(**changes) -> MnistSettings:
    return MnistSettings(
        **{"condition": "Dropout", "seed": 1, "epochs": 2, "batch_size": 64, "widths": SMALL, **changes}
    )


def test_one_run_records_what_the_paper_asks_for(mnist, tmp_path):
    told = []
    train(settings(every=2), load_images("mnist", mnist), tmp_path / "run", lambda *what: told.append(what))
    run = load(tmp_path / "run")
    assert (run.condition, run.seed, run.meta["state"]) == ("Dropout", 1, "completed")
    assert run.meta["config"]["widths"] == list(SMALL)
    flow = run.scalars[run.scalars["quantity"] == "net_grad_abs_mean"]
    assert sorted(flow["layer"].unique()) == [f"layer{i}.activation" for i in (1, 2, 3)]
    assert sorted(flow["step"].unique()) == [1, 2, 3, 4, 5, 6]  # 2 epochs of 200 // 64 batches
    held_out = run.scalars[(run.scalars["phase"] == "eval") & run.scalars["layer"].isna()]
    assert {"accuracy", "test_loss", "epoch"} <= set(held_out["quantity"])
    accuracy = held_out[held_out["quantity"] == "accuracy"]
    assert accuracy["step"].tolist() == [3, 6]
    assert [step for step, value in told if value is None] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value in told if value is not None] == accuracy["value"].tolist()
    assert run.histogram("net_value", "layer3.activation").n == 50 * 8
    assert run.histogram("node_correlation", "layer1.activation").n == 12 * 11 // 2
    assert run.histogram("weight", "layer1.linear").n == 784 * 12


def evaluated(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    return evaluate(model, lambda x: model(as_inputs(x)), images, labels, EVALUATION_BATCH)


def plain(wanted: MnistSettings, data) -> torch.nn.Module:
    """The protocol once more, without dropdiag's recorder and helpers."""
    torch.manual_seed(wanted.seed)
    order = torch.Generator().manual_seed(wanted.seed)
    model = build(wanted.condition, wanted.seed, widths=wanted.widths)
    kind = torch.optim.SGD if wanted.optimizer == "sgd" else torch.optim.Adam
    optimizer = kind(model.parameters(), lr=wanted.lr)
    inputs = data.train_images.reshape(-1, 784).float() / 255
    for _ in range(wanted.epochs):
        permutation = torch.randperm(len(inputs), generator=order)
        for k in range(len(inputs) // wanted.batch_size):
            batch = permutation[k * wanted.batch_size : (k + 1) * wanted.batch_size]
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[batch]), data.train_labels[batch]).backward()
            optimizer.step()
    return model


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-3), ("sgd", 0.1)])
def test_a_run_is_the_plain_training_loop(mnist, tmp_path, optimizer, lr):
    data, wanted = load_images("mnist", mnist), settings(optimizer=optimizer)
    assert wanted.lr == lr
    train(wanted, data, tmp_path / "run")
    model = plain(wanted, data)
    run = load(tmp_path / "run")
    accuracy, loss = evaluated(model, data.test_images, data.test_labels)
    last = run.scalars[run.scalars["step"] == 6].set_index("quantity")["value"]
    assert last["accuracy"] == accuracy
    assert last["test_loss"] == loss


def test_evaluation_is_that_of_the_whole_set_at_once():
    data = load_images("mnist")
    model = build("Dropout", 0, widths=SMALL)
    accuracy, loss = evaluated(model, data.test_images, data.test_labels)
    assert len(data.test_labels) > EVALUATION_BATCH
    assert model.training
    outputs = copy.deepcopy(model).eval()(as_inputs(data.test_images))
    assert accuracy == (outputs.argmax(1) == data.test_labels).sum().item() / 2000
    assert loss == pytest.approx(F.cross_entropy(outputs, data.test_labels).item(), rel=1e-5)


def test_batches_are_of_one_size_and_the_order_is_the_seed_s():
    wanted = settings()
    first = wanted.batches(200, torch.Generator().manual_seed(1))
    again = settings(condition="GAAF").batches(200, torch.Generator().manual_seed(1))
    assert [len(batch) for batch in first] == [64, 64, 64]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    seen = first.flatten().tolist()
    assert len(set(seen)) == len(seen)
    assert [len(batch) for batch in wanted.batches(50, torch.Generator())] == [50]
    assert (wanted.steps(200), wanted.steps(50)) == (6, 2)


def test_settings_survive_json():
    wanted = settings(optimizer="sgd", data="abc", source="here")
    config = json.loads(json.dumps(wanted.config()))
    assert MnistSettings.from_config({**config, "later": 1}) == wanted
    assert config["lr"] == 0.1
    assert settings(source="there") == settings(source="here")
    assert settings(data="a") != settings(data="b")


def test_early_stopping_keeps_validation_images_out_and_says_when(mnist, tmp_path):
    data = load_images("mnist", mnist)
    wanted = settings(condition="No dropout", epochs=60, validation=40, patience=3, optimizer="sgd", lr=0.5)
    train(wanted, data, tmp_path / "run")
    rows = load(tmp_path / "run").scalars
    scores = rows[rows["quantity"] == "validation_accuracy"]["value"].to_numpy()
    best = int(scores.argmax())
    assert len(scores) == best + 1 + 3 < 60
    assert (scores[best + 1 :] <= scores[best]).all()
    tested = rows[rows["quantity"] == "accuracy"]
    assert len(tested) == len(scores)
    assert tested["step"].tolist() == [(i + 1) * (160 // 64) for i in range(len(scores))]
    # the same training by hand: 160 of the 200 images take part, and the other 40 judge
    chosen = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    held_out, kept = chosen[:40].sort().values, chosen[40:].sort().values
    model = plain(
        dataclasses.replace(wanted, epochs=len(scores)), Fewer(data.train_images[kept], data.train_labels[kept])
    )
    accuracy, _ = evaluated(model, data.train_images[held_out], data.train_labels[held_out])
    assert accuracy == scores[-1]


@dataclasses.dataclass
class Fewer:
    train_images: torch.Tensor
    train_labels: torch.Tensor


def test_patience_alone_holds_out_a_sixth_and_some_images_are_left(mnist):
    data = load_images("mnist", mnist)
    assert prepare(settings(patience=3), data).validation == 200 // 6
    assert prepare(settings(patience=3, validation=7), data).validation == 7
    assert prepare(settings(), data).validation == 0
    with pytest.raises(ArgumentError, match="validation must leave images to train with: got 200 of 200 images"):
        prepare(settings(patience=3, validation=200), data)


def test_patience_counts_from_the_best_and_equal_is_no_better():
    patience = Patience(2)
    assert [patience.is_over(x) for x in (0.5, 0.4, 0.6, 0.6, 0.1)] == [False, False, False, False, True]
    assert not any(Patience(None).is_over(0.0) for _ in range(100))


def test_gaaf_is_fitted_before_every_epoch_and_what_came_out_is_kept(mnist, tmp_path):
    train(settings(condition="GAAF fitted", epochs=3, lr=0.05), load_images("mnist", mnist), tmp_path / "run")
    rows = load(tmp_path / "run").scalars
    heights = rows[rows["quantity"] == "gaaf_height"]
    assert set(heights["phase"]) == {"fit"}
    assert heights.groupby("layer")["step"].apply(list).tolist() == [[0, 3, 6]] * 3
    assert (heights["value"] <= 1).all()
    first = heights["layer"] == "layer1.activation"
    assert (heights.loc[first, "value"] == 0).all()  # no mask reaches it
    assert (heights.loc[~first, "value"] > 0).any()


def test_the_net_variance_is_measured_at_the_end(mnist, tmp_path):
    train(settings(condition="GAAF", rate=0.3), load_images("mnist", mnist), tmp_path / "run")
    run = load(tmp_path / "run")
    table = analysis.net_variance.table(run).set_index("layer")
    ratio = table["net_variance_mean"] / table["net_variance_closed_form_mean"]
    assert ratio["layer2.activation"] == pytest.approx(1, rel=0.1)
    assert run.histogram("net_variance", "layer3.activation").n == 50 * 8


def test_what_progress_raises_ends_the_run_and_is_noted(mnist, tmp_path):
    def stop(step, accuracy):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings(), load_images("mnist", mnist), tmp_path / "run", stop)
    assert load(tmp_path / "run").meta["state"] == "interrupted"


def test_a_run_that_diverges_is_recorded_to_its_end(mnist, tmp_path):
    train(settings(optimizer="sgd", lr=1e30), load_images("mnist", mnist), tmp_path / "run")
    run = load(tmp_path / "run")
    assert run.meta["state"] == "completed"
    loss = run.scalars[run.scalars["quantity"] == "test_loss"]["value"]
    assert not np.isfinite(loss).all() or loss.max() > 1e3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, got 'lion'"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": float("inf")}, "lr must be positive and finite, got inf"),
        (
            {"patience": 3, "validation": 0},
            "patience must be at least 1 epoch and needs images held out for validation, got patience 3",
        ),
        ({"patience": 0, "validation": 10}, "patience must be at least 1 epoch"),
        ({"validation": -1}, "validation must not be negative, got -1"),
        ({"activation": "sine"}, "activation must be one of tanh, relu, got 'sine'"),
        ({"condition": "GAAF port"}, "the condition 'GAAF port' is ReLU's"),
        ({"rate": 1.0}, "rate must be in [0, 1), got 1.0"),
        ({"condition": "dropin"}, "unknown condition 'dropin'"),
    ],
)
def test_settings_that_cannot_be_used(change, message):
    with pytest.raises(ArgumentError) as caught:
        settings(**change)
    assert message in str(caught.value)
