"""The views hold the rows that dropdiag reads: of resumed runs, of runs that grow, of several ranks."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest

from dropdiag.analysis import saturation
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.histograms.grid import BINS, bin_numbers, line_centres
from dropdiag.histograms.histogram import Histogram
from dropdiag.integrations.sql.bins import bins
from dropdiag.integrations.sql.write import to_sql
from dropdiag.store.reader import load
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.segments import list_segments, rank_folder
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.integrations.sql.conftest import views
from tests.ranks import add, close, correlation_rows, histogram, moment_rows, scalar, write, writer
from tests.synthetic import DERIVATIVES, _meta, content
from tests.versions import CALLED, write_run

KEYS = ["step", "phase", "layer", "call", "quantity"]
OF_COVARIANCES = {"participation_ratio", "effective_rank", "node_correlation_abs_mean", "node_correlation_nodes",
                  "constant_nodes", "net_value_sd", "net_value_excess_kurtosis"}  # fmt: skip


def sort(frame):
    keys = frame[KEYS].assign(layer=frame["layer"].fillna("")).sort_values(KEYS, kind="stable").index
    return frame.loc[keys].reset_index(drop=True)


def scalars(connection, view="scalars", where="TRUE"):
    return sort(connection.sql(f"FROM {view} WHERE {where}").df())


def histograms(connection, view="histograms", where="TRUE"):
    """Key -> histogram, as a view has them."""
    found = connection.sql(f"FROM {view} WHERE {where}").df()
    keys = list(found[KEYS].itertuples(index=False, name=None))
    assert len(set(keys)) == len(keys)
    lists = zip(found["bins"], found["counts"], strict=True)
    return {key: Histogram(*some) for key, some in zip(keys, lists, strict=True)}


def of_run(run, quantities=("net_value", "weight")):
    """The same, as dropdiag has them."""
    frames = [run.histograms(list(quantities), step="all", phase=phase) for phase in ("train", "eval")
              if any(phase in run.phases(name) for name in quantities)]  # fmt: skip
    return {tuple(row[name] for name in KEYS): row["histogram"] for frame in frames for row in frame.to_dict("records")}


def same(found, expected, rtol=0.0):
    expected = sort(expected)
    for name in KEYS:
        assert found[name].fillna("").tolist() == expected[name].fillna("").tolist()
    np.testing.assert_allclose(found["value"].astype(float), expected["value"].astype(float), rtol=rtol, atol=0)


def record(path, steps, *, resume=None, derivatives=True, state="completed", value=0.0):
    """One session of one process, a segment a step; returns the writer of a session that goes on."""
    meta = {
        **_meta(content("Dropout", 0), "Dropout", 0, "Tanh"),
        "steps": steps[-1],
        "disabled_probes": [],
        "warnings": [],
    }
    one = RunWriter(path, meta, resume_from=resume)
    if derivatives:
        one.add_derivatives({"Tanh": DERIVATIVES["Tanh"](line_centres())})
    if resume is not None:  # the step from which it went on may have rows of both sessions
        one.add_scalars([ScalarRow(resume, "eval", None, 0, "again", value)])
    for step in steps:
        held = Histogram.from_values([value, step + 0.5])
        one.add_scalars(
            [ScalarRow(step, "train", None, 0, "loss", step + value), ScalarRow(step, "train", "x", 1, "gone", None)]
        )
        one.add_histograms([HistogramRow(step, "eval", "layer1.activation", 0, "net_value", held.bins, held.counts)])
        one.flush()
        one.drain()
    if state is None:
        return one
    one.close(state)
    return None


def test_every_bin_has_the_bounds_of_the_floats_that_fall_into_it():
    table = bins().to_pandas()
    assert table["bin"].tolist() == list(range(BINS))
    first = (np.arange(BINS, dtype=np.uint32) << 17).view(np.float32)
    last = ((np.arange(BINS, dtype=np.uint32) << 17) + (2**17 - 1)).view(np.float32)
    finite = (table["kind"] == "finite").to_numpy()
    ends = np.sort(np.stack([first, last])[:, finite].astype(np.float64), axis=0)
    low, high = table["low"][finite].to_numpy(), table["high"][finite].to_numpy()
    assert (bin_numbers(first) == table["bin"]).all()
    assert ((low <= ends[0]) & (ends[1] <= high) & (low < high)).all()
    # a bin ends where the next one begins: at the first float that is not in it
    positive = last[finite & (first > 0)][:-1]
    np.testing.assert_array_equal(high[low > 0][:-1], np.nextafter(positive, np.float32(np.inf)).astype(np.float64))
    assert high[low > 0][-1] == 2.0**128
    np.testing.assert_array_equal(table["width"][finite], high - low)
    np.testing.assert_array_equal(table["centre"][finite], (low + high) / 2)
    assert table["kind"].value_counts().to_dict() == {"finite": 32638, "nan": 126, "zero": 2, "infinite": 2}
    assert table["kind"][np.isnan(first)].eq("nan").all()
    assert table["kind"][np.isinf(first)].eq("infinite").all()
    assert table.loc[table["kind"] == "nan", ["low", "high", "centre", "width"]].isna().all(axis=None)
    assert table.loc[[0, 0x4000], ["low", "high", "centre", "width"]].eq(0).all(axis=None)


def test_rows_of_a_resumed_run_count_once(tmp_path, open_views):
    path = tmp_path / "run"
    record(path, range(1, 7), state="interrupted")
    record(path, range(4, 9), resume=3, state="interrupted", value=0.25)
    record(path, range(6, 8), resume=5, state="interrupted", value=0.75)
    run, connection = load(path), open_views(path)
    same(scalars(connection), run.scalars)
    assert connection.sql("SELECT step, value FROM scalars WHERE quantity = 'loss' ORDER BY step").fetchall() == [
        (1, 1), (2, 2), (3, 3), (4, 4.25), (5, 5.25), (6, 6.75), (7, 7.75)]  # fmt: skip
    assert histograms(connection) == of_run(run)
    assert connection.sql("SELECT DISTINCT rank FROM rank_scalars").fetchall() == [(0,)]


def test_parts_that_a_kill_left_beside_a_joined_segment_count_once(tmp_path, open_views):
    path, copy = tmp_path / "run", tmp_path / "copy"
    one = record(path, range(1, 5), state=None)
    one.drain()
    shutil.copytree(path, copy)
    one.close("completed")
    for segment in list_segments(rank_folder(copy)):
        if not (path / "rank-0" / segment.path.name).exists():
            shutil.copy(segment.path, path / "rank-0")
    assert len(list((path / "rank-0").glob("scalars-*"))) == 5, "four parts and what was made of them"
    connection = open_views(path)
    same(scalars(connection), load(path).scalars)
    assert histograms(connection) == of_run(load(path))


def test_a_run_that_grows_is_read_as_it_is_at_each_query(tmp_path, open_views):
    path = tmp_path / "run"
    one = RunWriter(path, _meta(content("Dropout", 0), "Dropout", 0, "Softplus"))
    connection = open_views(path)
    count = "SELECT count(*) FROM scalars"
    assert connection.sql(count).fetchall()[0] == (0,)
    assert connection.sql("SELECT count(*) FROM saturation_shares").fetchall()[0] == (0,)
    for step in (1, 2):
        one.add_scalars([ScalarRow(step, "train", None, 0, "loss", 1.0)])
        one.flush()
        one.drain()
        assert connection.sql(count).fetchall()[0] == (step,)
    assert connection.sql("SELECT state FROM runs").fetchall()[0] == ("running",)
    one.close("completed")
    assert connection.sql(count).fetchall()[0] == (2,)
    assert connection.sql("SELECT state FROM runs").fetchall()[0] == ("completed",)


def test_what_came_to_a_run_since_is_not_read_and_said(tmp_path, open_views):
    resumed, gone, kept = (tmp_path / name for name in ("resumed", "gone", "kept"))
    for value, path in enumerate((resumed, gone, kept)):
        record(path, range(1, 4), value=float(value))
    connection = open_views([resumed, gone, kept])
    count = "SELECT run, count(*) FROM {} GROUP BY ALL ORDER BY ALL"
    assert connection.sql(count.format("scalars")).fetchall() == [("gone", 6), ("kept", 6), ("resumed", 6)]
    record(resumed, range(2, 4), resume=1, value=7.0)
    shutil.rmtree(gone)
    for view in ("scalars", "histograms", "rank_scalars", "rank_histograms", "saturation_shares"):
        assert [name for name, _ in connection.sql(count.format(view)).fetchall()] == ["kept"], view
    told = dict(connection.sql("SELECT run, left_out FROM runs").fetchall())
    assert told["kept"] is None
    assert "write them anew" in told["resumed"]
    assert "write them anew" in told["gone"]
    with open_views([resumed], "again") as connection:
        same(scalars(connection), load(resumed).scalars)


@pytest.mark.parametrize("name", ["it's", "lr=[0.1]", "a*b?c", "spaces and, commas"])
def test_any_path_is_read_and_no_other(tmp_path, open_views, name):
    record(tmp_path / name / "run", range(1, 3))
    record(tmp_path / "axbyc" / "run", range(1, 9), value=2.0)
    connection = open_views(tmp_path / name / "run", name="sql's [folder]")
    same(scalars(connection), load(tmp_path / name / "run").scalars)


def test_nothing_is_overwritten_and_a_rank_is_no_run(tmp_path):
    run = load(write(tmp_path / "run", [[scalar(1, "flow", 1.0, 1.0)]] * 2))
    with pytest.raises(ArgumentError, match="one rank of a run; give the run"):
        to_sql(run.ranks[1], tmp_path / "sql")
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "mine").touch()
    with pytest.raises(RunError, match="nothing is ever overwritten"):
        to_sql(run, tmp_path / "sql")


def test_a_run_without_its_derivatives_has_no_shares_and_is_named(tmp_path, open_views):
    path = tmp_path / "run"
    record(path, [9], derivatives=False)
    with pytest.warns(DropdiagWarning, match="run: the derivative of 'Tanh' is not recorded .yet."):
        connection = open_views(path)
    query = "SELECT activation, share, n_finite FROM saturation_shares"
    assert connection.sql(query).fetchall() == [("Tanh", None, 2)]
    record(tmp_path / "other", [9])
    connection = open_views([path, tmp_path / "other"], "beside one that has them")
    assert connection.sql(query + " WHERE share IS NOT NULL").fetchall() == [("Tanh", 0.5, 2)] * 2


RULES = {
    "mean": [(1.0, 3.0), (5.0, 1.0), (2.0, 0.0)], "plain": [(1.0, None), (2.0, None), (6.0, None)],
    "mixed": [(1.0, 3.0), (2.0, None), (1.0, 1.0)], "alike": [(1.5, 3.0), (1.5, None), (1.5, 1.0)],
    "missing": [(1.0, 3.0), (None, None), (2.0, 1.0)], "none came": [(None, 0.0), (1.0, 2.0), (None, 0.0)],
    "never came": [(None, 0.0), (2.5, 0.0), (1.5, 0.0)], "nan": [(np.nan, 2.0), (1.0, 2.0), (1.0, 2.0)],
    "infinite": [(np.inf, 2.0), (1.0, 2.0), (1.0, 2.0)], "null": [(None, None)] * 3,
    "weight_minimum": [(1.0, 1.0), (np.nan, 1.0), (3.0, 1.0)],
    "net_value_minimum": [(1.0, 3.0), (-2.0, 3.0), (0.0, 3.0)], "weight_maximum": [(1.0, 1.0), (np.nan, 1.0), (3.0, 1.0)],
    "repeated": [(2.0, 1.0), (2.0, 1.0), (2.0, 4.0)],
    "node_correlation_items": [(3.0, 3.0), (None, None), (5.0, 5.0)],
    "weight_mean": [(0.5, 10.0), (0.5, 10.0), (0.7, 30.0)], "raw_weight_grad_abs_mean": [(0.5, 10.0)] * 3,
}  # fmt: skip


@pytest.mark.parametrize("sharded", [False, True])
def test_scalars_of_ranks_merge_as_dropdiag_merges_them(tmp_path, open_views, sharded):
    layers = [{"layer": "act", "call": 0, "kind": "weight", "type": "Linear", "skipped": None, "sharded": sharded}]
    ranks = [[row for name, told in RULES.items() for row in (
        scalar(1, name, *told[rank]), scalar(2, name, *told[rank], layer=None))] for rank in range(3)]  # fmt: skip
    ranks[0] += [scalar(3, "twice", 1.0, layer=None), scalar(3, "twice", 5.0, layer=None)]
    ranks[1] += [scalar(3, "twice", 2.0, layer=None), scalar(3, "of one", 2.0, layer=None)]
    run = load(write(tmp_path / "run", ranks, steps=3, told=[{"layers": layers}] * 3))
    found = scalars(open_views(run.path))
    same(found, run.scalars, rtol=1e-15)
    assert found["value"].notna().sum() > 20
    of = found[found["step"] == 1].set_index("quantity")["value"]
    assert (of["mean"], of["repeated"], of["net_value_minimum"]) == (2.0, 2.0, -2.0)
    copies = (0.5 * 20 + 0.7 * 30) / 50 if sharded else (0.5 * 10 + 0.7 * 30) / 40
    np.testing.assert_allclose(of["weight_mean"], copies, rtol=1e-15)


def test_histograms_of_ranks_add_up(tmp_path, open_views, rng):
    layers = [{"layer": name, "call": 0, "kind": "weight", "type": "Linear", "skipped": None, "sharded": name == "part"}
              for name in ("fc", "part", "apart")]  # fmt: skip
    copies, values = rng.normal(size=50), [np.r_[rng.normal(size=40 + rank), np.nan, 0.0, -np.inf] for rank in range(3)]
    ranks = [
        [*histogram(1, "net_value", values[rank], phase="eval"), *histogram(2, "weight", copies, layer="fc"),
         *histogram(2, "weight", copies, layer="part"), *histogram(2, "weight", copies + (rank == 2), layer="apart")]
        for rank in range(3)
    ]  # fmt: skip
    run = load(write(tmp_path / "run", ranks, steps=2, told=[{"layers": layers}] * 3))
    connection = open_views(run.path)
    found = histograms(connection)
    assert found == of_run(run)
    assert found[1, "eval", "act", 0, "net_value"] == Histogram.from_values(np.concatenate(values))
    assert [found[2, "train", name, 0, "weight"].n for name in ("fc", "part", "apart")] == [50, 150, 100]
    (numbers,) = connection.sql("SELECT n, n_finite FROM histograms WHERE quantity = 'net_value'").fetchall()
    assert numbers == (sum(map(len, values)), sum(map(len, values)) - 6)
    for rank in range(3):
        assert histograms(connection, "rank_histograms", f"rank = {rank}") == of_run(run.ranks[rank])


def test_what_follows_from_states_alone_is_missing_and_the_rest_is_there(tmp_path, open_views, rng):
    ranks = []
    for rank in range(2):
        x = rng.normal(size=(8 + rank, 4))
        parts = *moment_rows(1, "net_value", x, phase="eval"), *correlation_rows(1, x)
        ranks.append([row for part in parts for row in part])
    run = load(write(tmp_path / "run", ranks))
    found, expected = scalars(open_views(run.path)), sort(run.scalars)
    missing = found["quantity"].isin(OF_COVARIANCES)
    assert set(found["quantity"][missing]) == OF_COVARIANCES
    assert found["value"][missing].isna().all()
    assert found["value"][~missing].notna().all()
    same(found[~missing].reset_index(drop=True), expected[~missing], rtol=1e-14)
    assert found.set_index("quantity")["value"]["node_correlation_samples"] == 17
    assert expected["value"][missing].notna().all(), "which dropdiag itself knows"
    connection = open_views(run.path, "again")
    assert connection.sql("FROM histograms WHERE quantity = 'node_correlation'").fetchall() == []
    assert len(connection.sql("FROM rank_histograms WHERE quantity = 'node_correlation'").fetchall()) == 2


def test_an_evaluation_that_all_ranks_repeat_counts_once(tmp_path, open_views, rng):
    same_data, own = rng.normal(size=20), [rng.normal(size=5) for _ in range(2)]
    ranks = [
        [*histogram(1, "net_value", same_data, phase="eval"), scalar(1, "flow", 1.0 + rank, 5.0 + rank, phase="eval"),
         scalar(1, "evaluation_digest", 7.0, layer=None, phase="eval"), scalar(1, "loss", 1.0 + rank, layer=None, phase="eval"),
         *histogram(2, "net_value", own[rank], phase="eval"),
         scalar(2, "evaluation_digest", 8.0 + rank, layer=None, phase="eval")]
        for rank in range(2)
    ]  # fmt: skip
    run = load(write(tmp_path / "run", ranks, steps=2))
    connection = open_views(run.path)
    same(scalars(connection), run.scalars)
    found = histograms(connection)
    assert found == of_run(run)
    assert [found[step, "eval", "act", 0, "net_value"].n for step in (1, 2)] == [20, 10]


def test_sessions_of_other_numbers_of_ranks(tmp_path, open_views):
    path = tmp_path / "run"
    for world, steps, name, resume in (
        (3, range(1, 7), "first", None),
        (2, range(4, 9), "second", 3),
        (4, range(7, 9), "third", 6),
    ):
        for rank in range(world):
            one = writer(path, rank, world, session=name, resume=resume)
            add(one, [scalar(step, "loss", 10.0 * step + rank + world, layer=None) for step in steps],
                *(histogram(step, "net_value", [step, rank + 0.5]) for step in steps))  # fmt: skip
            close(one, steps[-1])
    other = path / "rank-9"
    shutil.copytree(path / "rank-1", other)
    write_meta(other / "rank.json", json.loads((other / "rank.json").read_text()) | {"id": "another"})
    shutil.copytree(path / "rank-1", path / "rank-01")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run, connection = load(path), open_views(path)
        same(scalars(connection), run.scalars)
        assert histograms(connection) == of_run(run)
    assert any("is of another run" in str(one.message) for one in said)
    assert connection.sql("SELECT DISTINCT rank FROM rank_scalars ORDER BY ALL").fetchall() == [(0,), (1,), (2,), (3,)]


def test_tensor_parallel_ranks_are_left_out_and_named(tmp_path, open_views):
    told = [{"batch": "a", "shard": shard} for shard in (0, 1)]
    path = write(tmp_path / "run", [[scalar(1, "flow", 1.0 + rank, 2.0)] for rank in (0, 1)], told=told)
    with pytest.warns(
        DropdiagWarning, match=r"parts of one tensor \(tensor parallelism\).*it has no rows in the views"
    ):
        connection = open_views(path)
    assert len(scalars(connection)) == 0
    assert "tensor parallelism" in connection.sql("SELECT left_out FROM runs").fetchall()[0][0]
    same(scalars(connection, "rank_scalars", "rank = 1"), load(path).ranks[1].scalars)


def test_stages_with_layers_of_one_name_are_left_out_and_others_read(tmp_path, open_views):
    for name, layers in {"shared": ("act", "act"), "own": ("first", "second")}.items():
        told = [{"stage": stage, "id": name, "layers": [
            {"layer": layer, "call": 0, "kind": "activation", "type": "Tanh", "skipped": None}]}
            for stage, layer in enumerate(layers)]  # fmt: skip
        write(tmp_path / name, [[scalar(1, "flow", 1.0, 2.0, layer=layer)] for layer in layers], told=told)
    with pytest.warns(DropdiagWarning, match="other layers or functions of one name"):
        connection = open_views([tmp_path / "own", tmp_path / "shared"])
    assert connection.sql("SELECT run, layer FROM scalars ORDER BY ALL").fetchall() == [
        ("own", "first"),
        ("own", "second"),
    ]
    assert isinstance(connection.sql("FROM runs").df(), pd.DataFrame)


def test_runs_of_schema_1_alone_and_beside_newer_ones(tmp_path, open_views):
    old, new = write_run(tmp_path / "old", schema=1), write_run(tmp_path / "new", seed=1)
    run, connection = load(old), open_views(old)
    same(scalars(connection), run.scalars)
    assert run.layers.loc[run.layers["layer"] == CALLED, "call"].tolist() == [0]
    found = connection.sql("SELECT call, share FROM saturation_shares ORDER BY call").fetchall()
    assert [call for call, _ in found] == [0, 1, 2], "calls that are not listed have the layer's function"
    expected = saturation.share(run).sort_values("call")["share"]
    np.testing.assert_allclose([value for _, value in found], expected, rtol=1e-12)
    with pytest.warns(DropdiagWarning, match="its layers have other names today"):
        connection = open_views([old, new], "both")
    for view in ("scalars", "histograms"):
        assert set(connection.sql(f"FROM {view}").df()["run"]) == {"new"}


@pytest.mark.parametrize(
    "name", ["value=7", "step=3", "phase=x", "LAYER=x", "run=x", "n=5", "bins=3", "rank=9", "size=1"]
)
def test_what_a_folder_is_called_is_no_column(tmp_path, name):
    """DuckDB takes folders called key=value for columns, and puts them in place of those that files have."""
    folder = tmp_path / name
    record(folder / name, [1, 2], value=0.5)
    run = load(folder / name)
    connection = views(folder, folder / "sql")
    same(scalars(connection), run.scalars)
    found = histograms(connection)
    expected = of_run(run)
    assert {key: one.n for key, one in found.items()} == {key: one.n for key, one in expected.items()}
    assert connection.sql("SELECT run, left_out FROM runs").fetchall() == [(name, None)]


@pytest.mark.parametrize("name", ["content=evil", "filename=1", "Content="])
def test_a_folder_whose_name_duckdb_fails_on_is_left_out(tmp_path, name):
    for one in ("plain", name):
        record(tmp_path / "runs" / one, [1, 2])
    with pytest.warns(DropdiagWarning, match=f"(?i)takes '{name.partition('=')[0]}=' in its path for a column"):
        connection = views(tmp_path / "runs", tmp_path / "sql")
    assert connection.sql("SELECT DISTINCT run FROM scalars").fetchall() == [("plain",)]
    with pytest.raises(RunError, match="choose another folder"):
        to_sql(load(tmp_path / "runs" / "plain"), tmp_path / name / "sql")
