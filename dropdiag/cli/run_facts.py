"""What a run is and how it went, at the head of what commands show of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dropdiag.formatting import disabled, facts, size

if TYPE_CHECKING:
    from dropdiag.cli.terminal import Page
    from dropdiag.store.run import Run


def facts_of(run: Run, taken: int) -> dict[str, Any]:
    """Return what a run says of itself, for JSON.

    Parameters
    ----------
    run : Run
    taken : int
        Bytes that it takes on the disk.
    """
    meta = run.meta
    names = ("steps", "created", "ended", "error", "probes", "disabled_probes", "warnings", "cost", "every")
    told = {"run": run.name, "path": str(run.path), "condition": run.condition, "seed": run.seed, "bytes": taken,
            "state": run.state}  # fmt: skip
    group = run.group
    ranks = group and {"world_size": group.world_size, "read": group.read, "lacking": dict(group.lacking)}
    return {**told, **{name: meta.get(name) for name in names}, **({} if ranks is None else {"ranks": ranks}),
            "config": meta["config"], "versions": meta["versions"]}  # fmt: skip


def head(page: Page, run: Run, taken: int) -> None:
    """Show what a run is, how it went, and what it warned of."""
    page.line(run.name, style="bold")
    known = facts({**run.meta, "state": run.state})
    known["state"] += f", {size(taken)}"
    ranks = {} if run.group is None else {"ranks": run.group.told}
    page.pairs({"condition": f"{run.condition}, seed {'none' if run.seed is None else run.seed}", **known, **ranks})
    for warning in (*run.remarks, *disabled(run.meta), *run.meta.get("warnings", ())):
        page.line(f"warning: {warning}", style="yellow")
    page.line()
