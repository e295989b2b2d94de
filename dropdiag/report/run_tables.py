"""What the runs say of themselves: settings, coverage, warnings, and what recording them cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dropdiag.errors import NotRecordedError
from dropdiag.formatting import whole
from dropdiag.report.cells import Table, integers, numbers, table, texts, times
from dropdiag.report.series import TIMES
from dropdiag.store.reader import Runs

RUNS: Final = (
    texts("Condition", "condition"), texts("Run", "name"), integers("Seed", "seed"), integers("Steps", "steps"),
    texts("State", "state"), times("Started", "created"), times("Ended", "ended"), texts("Histograms", "every"),
    texts("Versions", "versions"),
)  # fmt: skip
COVERAGE: Final = (
    texts("Layer", "layer"), integers("Call", "call"), texts("Kind", "kind"), texts("Type", "type"),
    texts("Recorded", "recorded"), integers("Least times", "least"), integers("Most times", "most"),
    integers("Runs", "runs"), texts("Sampled", "sampled"), texts("Why not", "skipped"),
)  # fmt: skip
NODES: Final = texts("Nodes", "nodes")
ON_RANKS: Final = texts("On ranks", "ranks")
RANKS: Final = texts("Ranks", "of_ranks")
COST: Final = (
    texts("Condition", "condition"), texts("Run", "name"), numbers("Share of training", "share", ".2%"),
    numbers("Recorder, s", "recorder_seconds", ".2f"), numbers("Training, s", "step_seconds", ".2f"),
    numbers("Median step, ms", "step", ".3g"), numbers("Median evaluation, s", "evaluation", ".3g"),
    numbers("Writer, s", "writer_seconds", ".2f"), integers("Thinned steps", "thinned_steps"),
    integers("Rested steps", "rested_steps"), numbers("Waited, s", "seconds_waited", ".2f"),
)  # fmt: skip
# what was expected and never came stands first: it is what a reader must not miss
RECORDED: Final = ("silent", "in some runs", "no", "yes")


def runs_table(runs: Runs) -> Table:
    """One row a run: condition, seed, steps, state, when, versions."""
    records = []
    for run in runs:
        versions = ", ".join(f"{name} {version}" for name, version in (run.meta.get("versions") or {}).items())
        own = {"condition": run.condition, "name": run.name, "seed": run.seed, "versions": versions}
        own["of_ranks"] = "" if run.group is None else run.group.told
        records.append({**run.meta, "state": run.state, **own})
    return table("The runs", records, (*RUNS, RANKS) if any(record["of_ranks"] for record in records) else RUNS)


def settings_table(runs: Runs) -> Table:
    """Return the runs' config, a row a key: one value where all runs agree, else a value a condition."""
    configs = [(run.condition, run.meta.get("config") or {}) for run in runs]
    keys = list(dict.fromkeys(key for _, config in configs for key in config if key not in {"seed", "condition"}))
    records = []
    for key in keys:
        # runs of one condition may differ too, as in their learning rate: each value once
        values = {name: ", ".join(dict.fromkeys(str(c[key]) for of, c in configs if of == name and key in c))
                  for name in runs.conditions}  # fmt: skip
        alike = len(set(values.values())) == 1
        shown = next(iter(values.values())) if alike else "; ".join(f"{n}: {v or '–'}" for n, v in values.items())
        records.append({"key": key, "value": shown, "in": "all" if alike else "differs"})
    columns = texts("Setting", "key"), texts("Value", "value"), texts("In", "in")
    return table("Settings (config of the runs)", records, columns)


def coverage_table(runs: Runs) -> Table:
    """Sites of the models, a row a site: what was recorded of it in how many runs, and if not, why."""
    found: dict[tuple[str, int, str], list[Any]] = {}
    for run in runs:
        try:
            rows = run.coverage()
        except NotRecordedError:
            continue  # it is still recorded: the table is written when the Recorder is closed
        for row in rows:
            found.setdefault((row.layer, row.call, row.kind), []).append(row)
    records = [_covered(rows) for rows in found.values()]
    records.sort(key=lambda record: RECORDED.index(record["recorded"]))
    # runs of schema 1 do not say of nodes, and those of one process nothing of ranks
    told = [column for name, column in (("nodes", NODES), ("ranks", ON_RANKS)) if any(one[name] for one in records)]
    return table("Coverage: every site of the models", records, (*COVERAGE, *told))


def _covered(rows: Sequence[Any]) -> dict[str, Any]:
    """Return one site's record, from its rows of the runs that have it."""
    came = [bool(row.fired) for row in rows if row.expected]
    recorded = "no" if not came else "yes" if all(came) else "in some runs" if any(came) else "silent"
    fired = [row.fired for row in rows]
    return {
        "layer": rows[0].layer, "call": rows[0].call, "kind": rows[0].kind, "recorded": recorded,
        "least": min(fired), "most": max(fired), "runs": len(fired),
        **{name: _values(getattr(row, name, None) for row in rows)
           for name in ("type", "sampled", "skipped", "nodes", "ranks")},
    }  # fmt: skip


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
        if run.state != "completed":
            why = f" ({meta['error']})" if meta.get("error") else ""
            steps = whole(meta.get("steps") or 0)
            found.append(f"{run.name}: its state is {run.state!r}{why}, after {steps} steps.")
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
    records = []
    for label, run in zip(runs.labels(), runs, strict=True):
        step, evaluation = (seconds.get((name, label)) for name in TIMES)
        own = {"condition": run.condition, "name": run.name, "step": step and 1e3 * step, "evaluation": evaluation}
        records.append({**(run.meta.get("cost") or {}), **own})
    return table("What recording cost", records, COST)


def _values(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value))


def _name(probe: Any) -> str:
    return str(probe.get("name", probe)) if isinstance(probe, dict) else str(probe)
