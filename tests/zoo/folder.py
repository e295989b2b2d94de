"""What a run folder says, in the terms of the slow reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

import dropdiag as dd
from dropdiag.errors import NotRecordedError
from tests.zoo.tally import Pass, Tally

QUANTITIES = ("net_value", "node_value", "net_grad")
SCALARS = ("net_value_abs_mean", "net_grad_abs_mean", "saturation_share_left", "saturation_share_right")
NOTHING = (0, b"")


@dataclass(frozen=True)
class Reading:
    """A pass through a site: its histograms to be equal, its numbers to be close, where it was.

    Attributes
    ----------
    histograms : tuple of (n, bytes)
        Of net value, node value and net gradient.
    numbers : tuple of float
        Mean |z|, mean |dL/dz|, saturation share.
    where : str
        For messages.
    layer, call : str and int, or None
        Where the run folder has it.
    """

    histograms: tuple[tuple[int, bytes], ...]
    numbers: tuple[float, float, float]
    where: str
    layer: str | None = None
    call: int | None = None

    @classmethod
    def of(cls, taken: Pass, *, gradient: bool = True) -> Reading:
        """Take the slow reader's pass; in an evaluation without a gradient."""
        tallies = taken.z, taken.h, taken.dz if gradient else Tally()
        where = f"{taken.operation}, n={taken.h.n}, mean |z|={taken.z.mean:.4g}, mean |dz|={taken.dz.mean:.4g}"
        return cls(tuple(t.key() for t in tallies), (taken.z.mean, tallies[2].mean, taken.saturation()), where)


def readings(run: dd.Run, apart: Mapping[str, str], phase: str = "train") -> dict[int, list[Reading]]:
    """Return what was recorded of every activation and output, by step."""
    histograms: dict[tuple[int, str, int], dict[str, tuple[int, bytes]]] = {}
    for quantity in QUANTITIES:
        if quantity == "net_grad" and phase != "train":
            continue
        for row in _histograms(run, quantity, phase):
            bins, counts = row.histogram.bins.astype(np.int64), row.histogram.counts.astype(np.int64)
            key = (row.step, row.layer, row.call)
            histograms.setdefault(key, {})[quantity] = int(counts.sum()), bins.tobytes() + counts.tobytes()
    frame = run.scalars[run.scalars["phase"] == phase]
    scalars = {(r.step, r.layer, r.call, r.quantity): r.value for r in frame.itertuples() if r.layer is not None}
    found: dict[int, list[Reading]] = {}
    for (step, layer, call), kept in histograms.items():
        if any(fnmatchcase(layer, pattern) for pattern in apart):
            continue
        abs_z, flow, left, right = (float(scalars.get((step, layer, call, name), np.nan)) for name in SCALARS)
        reading = Reading(
            tuple(kept.get(q, NOTHING) for q in QUANTITIES),
            (abs_z, flow, left + right),
            f"{layer}[{call}], mean |dz|={flow:.4g}",
            layer,
            call,
        )
        found.setdefault(step, []).append(reading)
    return found


def _histograms(run: dd.Run, quantity: str, phase: str):
    try:
        return list(run.histograms(quantity, "all", phase).itertuples())
    except NotRecordedError:
        return []


def assert_same(recorded: Iterable[Reading], read: Iterable[Reading], where: str) -> None:
    """Assert that two collections hold the same passes, in any order but that of each layer's calls."""
    recorded, in_order = sorted(filter(_values, recorded), key=_key), list(filter(_values, read))
    read = sorted(in_order, key=_key)
    if [r.histograms for r in recorded] != [r.histograms for r in read]:
        raise AssertionError(f"{where}: {_difference(recorded, read)}")
    for mine, its in zip(recorded, read, strict=True):
        message = f"{where}: {mine.where} / {its.where}"
        np.testing.assert_allclose(mine.numbers, its.numbers, rtol=1e-6, atol=1e-12, err_msg=message)
    _assert_calls_in_order(recorded, in_order, where)


def _values(reading: Reading) -> bool:
    """Whether a pass had any values: an expert that is given no rows has none."""
    return any(n for n, _ in reading.histograms)


def _assert_calls_in_order(recorded: list[Reading], read: list[Reading], where: str) -> None:
    seen = [r.histograms for r in read]
    position = {key: seen.index(key) for key, times in Counter(seen).items() if times == 1}
    for layer in {r.layer for r in recorded}:
        calls = sorted(
            (r.call, position[r.histograms]) for r in recorded if r.layer == layer and r.histograms in position
        )
        positions = [at for _, at in calls]
        assert positions == sorted(positions), f"{where}: the calls of {layer} are in another order: {calls}"


def _key(reading: Reading):
    return reading.histograms, tuple(np.nan_to_num(number, nan=-1.0) for number in reading.numbers)


def _difference(recorded: list[Reading], read: list[Reading]) -> str:
    surplus = Counter(r.histograms for r in recorded)
    surplus.subtract(Counter(r.histograms for r in read))
    only_recorded = [r for r in recorded if surplus[r.histograms] > 0]
    lines = [f"recorded {len(recorded)} passes, the slow reader saw {len(read)}"]
    for name, ours, theirs in (
        ("recorded only", only_recorded, read),
        ("read only", [r for r in read if surplus[r.histograms] < 0], recorded),
    ):
        lines += [f"  {name}: {r.where} ({_nearest(r, theirs)})" for r in ours]
    return "\n".join(lines)


def _nearest(reading: Reading, others: list[Reading]) -> str:
    same = [
        [q for q, a, b in zip(QUANTITIES, reading.histograms, other.histograms, strict=True) if a == b and a != NOTHING]
        for other in others
    ]
    best = max(same, key=len, default=[])
    return f"another has the same {', '.join(best)}" if best else "no other is like it"
