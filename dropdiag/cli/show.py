"""``dropdiag show``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dropdiag.cli.common import AsJson, clear_errors, echo_json, finish, one_run, place
from dropdiag.cli.completion import layers, run_folders
from dropdiag.cli.run_facts import facts_of, head
from dropdiag.cli.show_ranks import show_ranks
from dropdiag.cli.terminal import Page, grouped, histogram, spark
from dropdiag.errors import warned
from dropdiag.formatting import plain, text
from dropdiag.titles import short

if TYPE_CHECKING:
    from dropdiag.analysis.last_values import LastValue
    from dropdiag.analysis.overview import Site
    from dropdiag.store.run import Run

TEXT = 32  # columns that a row takes beside its layer, the ends of its values and the two small figures
ENDS = "0.1–99.9 %"
LAYER = 32  # longer names lose what all share; what is left goes on in the next line


@clear_errors()
def show(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", parser=place, autocompletion=run_folders, help="A run folder; it may still be recorded."
        ),
    ],
    *,
    layer: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", autocompletion=layers, help="Layers whose name matches, as in 'encoder.*'."),
    ] = None,
    step: Annotated[
        int | None, typer.Option(min=0, help="Show what was recorded up to this step.", show_default="the last one")
    ] = None,
    phase: Annotated[
        str | None,
        typer.Option(help="Of net values and correlations.", show_default="held-out data where it was recorded"),
    ] = None,
    ranks: Annotated[
        bool, typer.Option("--ranks", help="Show the processes that recorded it side by side, in place of its layers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one run in the terminal: what it is, how it went, and every layer at a glance.

    A row a site: **w** the weights or **z** the net values as a small histogram (from the 0.1 % to the 99.9 %
    quantile, written beside it), the gradient flow mean |dL/dz| through training (left to right, each row on its own
    log scale, its mean beside it), the share of net values in the saturation area, mean |r| of the nodes. Below it the
    last value of every other quantity, of your own probes too; of a distribution its mean and standard deviation. Each
    dropout has a row of its own: its rate, the share that it drops, the noise that it adds beside the signal.

    **Examples**

    - `dropdiag show runs/dropout-s0`
    - `dropdiag show runs/dropout-s0 --layer '*.activation' --step 500`
    - `dropdiag show runs/dropout-s0 --json | jq '.layers[].gradient_flow.mean'`
    - `dropdiag show runs/four-gpus --ranks`
    """
    if ranks:
        show_ranks(run, as_json=as_json)
        return
    with warned() as problems:
        from dropdiag.analysis.dropouts import of_run  # noqa: PLC0415 - pandas is not paid for --help
        from dropdiag.analysis.last_values import last_values  # noqa: PLC0415
        from dropdiag.analysis.overview import sites  # noqa: PLC0415
        from dropdiag.store.listing import folder_size  # noqa: PLC0415

        opened = one_run(run)
        found = sites(opened, layer=layer, step=step, phase=phase)
        dropouts = of_run(opened, layer=layer, step=step)
        others = last_values(opened, layer=layer, step=step, phase=phase)
        taken = folder_size(opened.path)
    if as_json:
        echo_json({
            **facts_of(opened, taken), "problems": problems, "layers": [site.as_dict() for site in found],
            "dropouts": dropouts, "quantities": [asdict(one) for one in others],
        })  # fmt: skip
    else:
        _print(opened, found, dropouts, others, taken)
    finish(problems, "warning")


def _print(run: Run, sites: list[Site], dropouts: list[dict[str, Any]], others: list[LastValue], taken: int) -> None:
    page = Page()
    head(page, run, taken)
    if sites:
        _layers(page, sites)
    elif not any(one.layer for one in others):
        page.line("Nothing is recorded of any layer yet.")
    if dropouts:
        page.line()
        _dropouts(page, dropouts)
    if others:
        page.line()
        columns = {"last values": "left", "step": "right", "value": "right", "sd": "right"}
        page.table(columns, grouped(_by_quantity(others, short([one.layer for one in others], LAYER))))
    page.show()


def _layers(page: Page, sites: list[Site]) -> None:
    many = len({site.call for site in sites}) > 1  # calls are named only where a module is called more than once
    ends, names = [_ends(site) for site in sites], short([site.layer for site in sites], LAYER)
    longest = min(max(map(len, names.values())), LAYER) + max(len(ENDS), *map(len, ends))
    # Histogram and curve share what the texts leave of the terminal; beyond 32 columns they say nothing more.
    figure = max(8, min((page.width - TEXT - longest) // 2, 32))
    rows = []
    for site, end in zip(sites, ends, strict=True):
        flow = site.flow
        rows.append([
            _called(names, site.layer, site.call if many else 0),
            "w" if site.quantity == "weight" else "z",
            histogram(site.bars(figure)[0], unicode=page.unicode),
            end,
            "" if flow is None else spark(_logs(flow.means, figure), unicode=page.unicode),
            "" if flow is None else f"{flow.mean:.1e}",
            plain(site.saturation_share, '.1%'),
            "" if math.isnan(site.mean_abs_r) else f"{site.mean_abs_r:.2f}",
        ])  # fmt: skip
    columns = {"layer": "left", "": "left", "values": "fixed", ENDS: "fixed", "flow": "fixed", "mean": "right",
               "satur.": "right", "|r|": "right"}  # fmt: skip
    page.table(columns, rows)
    page.line(_caption(sites), style="dim")


def _dropouts(page: Page, dropouts: list[dict[str, Any]]) -> None:
    columns = {"dropout": "left", "rate": "right", "dropped": "right", "noise/signal": "right", "grain": "left",
               "applied to": "left", "feeds": "left"}  # fmt: skip
    names = short([word for one in dropouts for word in (one["layer"], one["applied_to"], one["feeds"]) if word], LAYER)
    rows = [
        [_called(names, one["layer"], one["call"]), _rate(one), plain(one["dropped_share"]),
         plain(one["noise_to_signal"]), text(one["grain"]), names.get(one["applied_to"], ""),
         names.get(one["feeds"], "")]
        for one in dropouts
    ]  # fmt: skip
    page.table(columns, rows)
    page.line("Dropped: of the units that were not 0 already; noise/signal: means over training.", style="dim")


def _rate(dropout: dict[str, Any]) -> str:
    """Return the rate; of one that is scheduled the first and the last."""
    ends = [plain(dropout[name]) for name in ("rate_first", "rate_last")]
    return "→".join(ends) if dropout["scheduled"] else ends[-1]


def _called(names: dict[str, str], layer: str, call: int) -> str:
    return f"{names[layer]}{f'#{call}' if call else ''}"


def _by_quantity(others: list[LastValue], names: dict[str, str]) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each quantity, with its unit and phase, and the last values of its layers."""
    # they come sorted, so that each group is whole
    for (label, unit, phase), group in groupby(others, lambda one: (one.label, one.unit, one.phase)):
        yield f"{label}{'' if unit in ('', '1') else f', {unit}'} ({phase})", [
            [_called(names, one.layer, one.call), f"{one.step:,}", plain(one.value), plain(one.sd)]
            for one in group
        ]  # fmt: skip


def _ends(site: Site) -> str:
    low, high = site.bars(1)[1]
    return "" if math.isnan(low) else f"{plain(low, '.2g')}…{plain(high, '.2g')}"


def _logs(values: Any, width: int) -> list[float]:
    """Logarithms of a curve, thinned to a width; a value that has none is a gap."""
    count = min(width, len(values))
    places = [round(i * (len(values) - 1) / max(count - 1, 1)) for i in range(count)]
    return [math.log(values[i]) if values[i] > 0.0 else float("nan") for i in places]


def _caption(sites: list[Site]) -> str:
    at = {(s.quantity, s.phase, s.step) for s in sites if s.step is not None}
    names = {"weight": "w: weights", "net_value": "z: net values"}
    parts = [f"{names[quantity]} at step {step:,} ({phase})" for quantity, phase, step in sorted(at, reverse=True)]
    return "; ".join([*parts, "flow: gradient flow, mean |∂L/∂z| over training, each row on its own log scale"]) + "."
