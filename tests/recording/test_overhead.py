"""The recorder's own share of the time of training, and keeping it within a budget."""

import time

import pytest

import dropdiag as dd
from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.probes import Probe, Signal
from dropdiag.recording import overhead as cost
from dropdiag.recording.overhead import Overhead
from dropdiag.sketches import AbsMean
from tests.networks import batches, mlp, train


class Clock:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(cost, "clock", clock)
    return clock


def run(meter, clock, steps, *, bare, light, heavy, wanted=lambda step: True):
    """Go through steps that cost so much; return what was planned for each."""
    plans = []
    for step in range(1, steps + 1):
        scheduled, paused = meter.plan(wanted(step))
        own = 0 if paused else heavy if scheduled else light
        clock.now += bare + own
        meter.spent += own
        meter.read()
        plans.append((scheduled, paused))
    return plans


def test_without_a_budget_everything_is_recorded_and_the_share_is_told(clock):
    meter = Overhead()
    assert run(meter, clock, 101, bare=900, light=0, heavy=100) == [(True, False)] * 101
    summary = meter.summary()
    assert summary["share"] == pytest.approx(0.1)
    assert summary["steps"] == 100
    assert summary["step_seconds"] == pytest.approx(100 * 1000e-9)
    assert summary["recorder_seconds"] == pytest.approx(100 * 100e-9)


def test_a_budget_thins_the_schedule_until_the_share_is_back(clock):
    meter = Overhead(0.02)
    plans = run(meter, clock, 5000, bare=1000, light=5, heavy=200)
    scheduled = sum(s for s, _ in plans)
    assert 0.05 * 5000 < scheduled < 0.12 * 5000
    assert meter.summary()["share"] == pytest.approx(0.02, rel=0.1)
    assert meter.thinned == 5000 - scheduled
    assert meter.rested == 0


def test_where_the_probes_of_every_step_are_too_dear_they_rest(clock):
    meter = Overhead(0.02)
    plans = run(meter, clock, 5000, bare=1000, light=100, heavy=100, wanted=lambda step: step % 10 == 0)
    assert meter.summary()["share"] == pytest.approx(0.02, rel=0.1)
    assert 0.6 * 5000 < sum(paused for _, paused in plans) == meter.rested < 0.9 * 5000


def test_an_evaluation_counts_for_no_step(clock):
    meter = Overhead()
    clock.now += 10
    meter.read()
    meter.spent += 3
    meter.evaluation_begins()
    clock.now += 1000
    meter.spent += 400
    assert [f.value for f in meter.evaluation_ends()] == pytest.approx([1000e-9, 400e-9])
    clock.now += 50
    assert [f.value for f in meter.read()] == pytest.approx([50e-9, 3e-9])


@pytest.mark.parametrize("budget", [0.0, -1, 1.5, "2 %", True, float("nan")])
def test_a_budget_is_a_share(tmp_path, budget):
    with pytest.raises(ArgumentError, match=r"budget= takes a share .* got"):
        dd.Recorder(mlp(), tmp_path / "run", budget=budget)
    assert not (tmp_path / "run").exists()


def test_every_run_records_its_own_cost(tmp_path):
    model = mlp()
    begun = time.perf_counter()
    with dd.Recorder(model, tmp_path / "run", every=2) as rec:
        train(model, 6, rec)
        with rec.evaluation():
            model.eval()(next(batches(1))[0])
    took = time.perf_counter() - begun
    run = dd.load(tmp_path / "run")
    values = run.scalars.set_index("quantity")["value"]
    assert len(values["step_seconds"]) == 6
    assert 0 < values["step_seconds"].sum() < took
    train_cost = run.scalars.query("quantity == 'recorder_seconds' and phase == 'train'")["value"]
    assert (train_cost.to_numpy() > 0).all()
    assert train_cost.sum() < values["step_seconds"].sum()
    assert (
        values["evaluation_seconds"]
        > run.scalars.query("quantity == 'recorder_seconds' and phase == 'eval'")["value"].item()
        > 0
    )
    told = run.meta["cost"]
    assert told["steps"] == 5
    assert 0 < told["share"] < 1
    assert told["budget"] is None
    assert told["writer_seconds"] > 0


class Slow(Probe):
    name = "slow"
    signal = Signal.WEIGHT
    ran = False

    def sketch(self, place):
        self.ran = True
        return AbsMean()

    def values(self, sketch):
        return [("slow", sketch.mean())]


@pytest.fixture
def slow(monkeypatch):
    """Return a probe that takes most of each step in which it runs, by the clock of this test and not of the machine."""
    probe, add, plan = Slow(), cost._Recent.add, Overhead.plan

    def planned(self, wanted):
        probe.ran = False
        return plan(self, wanted)

    monkeypatch.setattr(cost._Recent, "add", lambda self, step, own: add(self, 100, 95 if probe.ran else 5))
    monkeypatch.setattr(Overhead, "plan", planned)
    return probe


def test_a_budget_is_kept_and_what_is_left_out_is_recorded(tmp_path, slow):
    model = mlp()
    with pytest.warns(DropdiagWarning, match="recording took more than its budget"):
        with dd.Recorder(model, tmp_path / "run", probes=[slow, "gradient_flow"], every=1, budget=0.9) as rec:
            train(model, 60, rec)
    run = dd.load(tmp_path / "run")
    thinned = run.scalars.query("quantity == 'schedule_thinned'")["step"].tolist()
    taken = run.scalars.query("quantity == 'slow' and step > 0")["step"].unique().tolist()
    assert thinned
    assert not set(thinned) & set(taken) - {60}  # weights are recorded at the end in any case
    assert run.meta["cost"]["thinned_steps"] >= len(thinned) > 0
    flows = set(run.scalars.query("quantity == 'net_grad_abs_mean'")["step"])
    rested = set(run.scalars.query("quantity == 'probes_rested'")["step"])
    assert flows | rested == set(range(1, 61))
    assert not flows & rested
    assert any("budget" in warning for warning in run.meta["warnings"])
