"""What the runs say of themselves: settings, coverage, warnings, and what recording them cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dropdiag.errors import NotRecordedError
from dropdiag.formatting import whole
from dropdiag.report.cells import Table, integer, number, text
from dropdiag.report.series import TIMES
from dropdiag.store.reader import Runs


def runs_table(runs: Runs) -> Table:
    """One row a run: condition, seed, steps, state, when, versions."""
    rows = []
    for run in runs:
        meta = run.meta
        versions = meta.get("versions") or {}
        rows.append([
            text(run.condition), text(run.name), integer(run.seed), integer(meta.get("steps")),
            text(_state(meta)), text(meta.get("created") or ""), text(meta.get("ended") or ""),
            text(meta.get("every") or ""),
            text(", ".join(f"{name} {version}" for name, version in versions.items())),
        ])  # fmt: skip
    heads = ["Condition", "Run", "Seed", "Steps", "State", "Started", "Ended", "Histograms", "Versions"]
    return Table("The runs", heads, rows)


def settings_table(runs: Runs) -> Table:
    """Return the runs' config, a row a key: one value where all runs agree, else a value a condition."""
    configs = [(run.condition, run.meta.get("config") or {}) for run in runs]
    keys = list(dict.fromkeys(key for _, config in configs for key in config if key not in {"seed", "condition"}))
    rows = []
    for key in keys:
        values = {name: _values(c[key] for of, c in configs if of == name and key in c) for name in runs.conditions}
        alike = len(set(values.values())) == 1
        shown = next(iter(values.values())) if alike else "; ".join(f"{n}: {v or '–'}" for n, v in values.items())
        rows.append([text(key), text(shown), text("all" if alike else "differs")])
    return Table("Settings (config of the runs)", ["Setting", "Value", "In"], rows)


def coverage_table(runs: Runs) -> Table:
    """Sites of the models, a row a site: what was recorded of it in how many runs, and if not, why."""
    found: dict[tuple[str, int, str], list[Any]] = {}
    for run in runs:
        try:
            rows = run.coverage()
        except NotRecordedError:
            continue
        for row in rows:
            found.setdefault((row.layer, row.call, row.kind), []).append(row)
    made = []
    for (layer, call, kind), rows_of in found.items():
        fired = [row.fired for row in rows_of]
        made.append([
            text(layer), integer(call), text(kind), text(_values(row.type for row in rows_of)),
            text(_covered(rows_of)), integer(min(fired)), integer(max(fired)), integer(len(fired)),
            text(_values(row.sampled for row in rows_of if row.sampled)),
            text(_values(row.skipped for row in rows_of if row.skipped)),
        ])  # fmt: skip
    # what was expected and never came stands first: it is what a reader must not miss
    made.sort(key=lambda row: {"silent": 0, "in some runs": 1, "yes": 3, "no": 2}[str(row[4].shown)])
    heads = ["Layer", "Call", "Kind", "Type", "Recorded", "Least times", "Most times", "Runs", "Sampled", "Why not"]
    return Table("Coverage: every site of the models", heads, made)


def coverage_line(table: Table) -> str:
    """Return the coverage table in one sentence."""
    if not table.rows:
        return "No run has a coverage table yet: it is written when the Recorder is closed."
    counts = Counter(str(row[4].shown) for row in table.rows)
    parts = [f"{counts['yes']} of {len(table.rows)} sites were recorded in every run"]
    parts += [f"{counts['in some runs']} in some runs"] if counts["in some runs"] else []
    parts += [f"{counts['silent']} were expected and never came"] if counts["silent"] else []
    parts += [f"{counts['no']} are not recorded, each with its reason"] if counts["no"] else []
    return "; ".join(parts) + "."


def warnings_of(runs: Runs) -> list[str]:
    """Sentences about runs that did not end well, lost probes or warned while they were recorded."""
    found = []
    for run in runs:
        meta = run.meta
        if meta.get("state") != "completed":
            why = f" ({meta['error']})" if meta.get("error") else ""
            steps = whole(meta.get("steps") or 0)
            found.append(f"{run.name}: its state is {meta.get('state')!r}{why}, after {steps} steps.")
        found += [
            f"{run.name}: the probe {name!r} was disabled." for name in map(_name, meta.get("disabled_probes") or [])
        ]
        found += [f"{run.name}: {sentence}" for sentence in meta.get("warnings") or []]
    unseeded = [run.name for run in runs if run.seed is None]
    if unseeded:
        found.append(f"No seed in the config of {', '.join(unseeded)}: they cannot be paired with other runs.")
    return found


def cost_table(runs: Runs, seconds: Mapping[tuple[str, str], float]) -> Table:
    """Return what recording cost each run, by the recorder's own clock.

    Parameters
    ----------
    runs : Runs
    seconds : mapping of (str, str) to float
        As `dropdiag.report.series.Scalars` has them.
    """
    rows = []
    for label, run in zip(runs.labels(), runs, strict=True):
        cost = run.meta.get("cost") or {}
        step, evaluation = (seconds.get((name, label)) for name in TIMES)
        rows.append([
            text(run.condition), text(run.name), number(cost.get("share"), ".2%"),
            number(cost.get("recorder_seconds"), ".2f"), number(cost.get("step_seconds"), ".2f"),
            number(None if step is None else 1e3 * step, ".3g"), number(evaluation, ".3g"),
            number(cost.get("writer_seconds"), ".2f"), integer(cost.get("thinned_steps")),
            integer(cost.get("rested_steps")), number(cost.get("seconds_waited"), ".2f"),
        ])  # fmt: skip
    heads = ["Condition", "Run", "Share of training", "Recorder, s", "Training, s", "Median step, ms",
             "Median evaluation, s", "Writer, s", "Thinned steps", "Rested steps", "Waited, s"]  # fmt: skip
    return Table("What recording cost", heads, rows)


def _state(meta: dict[str, Any]) -> str:
    return str(meta.get("state") or "unknown")


def _values(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))


def _name(probe: Any) -> str:
    return str(probe.get("name", probe)) if isinstance(probe, dict) else str(probe)


def _covered(rows: Sequence[Any]) -> str:
    if not any(row.expected for row in rows):
        return "no"
    came = [bool(row.fired) for row in rows if row.expected]
    return "yes" if all(came) else "in some runs" if any(came) else "silent"
