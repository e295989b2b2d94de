"""``dropdiag plot``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from dropdiag.cli.common import (
    AsJson,
    Baseline,
    GroupsArgument,
    answer,
    check_file,
    check_folder,
    clear_errors,
    finish,
    groups,
    tell,
)
from dropdiag.cli.completion import layers, offered
from dropdiag.errors import ArgumentError, AxisError, BaselineError, NotRecordedError, warned
from dropdiag.formatting import some
from dropdiag.store.new_files import file_name
from dropdiag.store.schema import QUANTITIES

if TYPE_CHECKING:
    from dropdiag.store.reader import Runs


class Format(str, Enum):
    """What a figure can be written as."""

    png = "png"
    svg = "svg"
    pdf = "pdf"


class Figure(NamedTuple):
    """A figure of `dropdiag.plots`: whose layers it draws (quantities, or dropouts), and the options that it takes."""

    layers_of: str | tuple[str, ...] | None
    options: tuple[str, ...] = ()


FIGURES: Final = {
    "weights": Figure("weight"),
    "correlation": Figure("node_correlation", ("phase",)),
    "gradient_flow": Figure("net_grad_abs_mean", ("baseline",)),
    "flow_decomposition": Figure("node_grad_abs_mean", ("baseline",)),
    "net_variance": Figure("net_variance", ("phase",)),
    "saturation": Figure("net_value", ("phase",)),
    "dropouts": Figure("dropout"),
    "dose_response": Figure("net_grad_abs_mean", ("x",)),
    "health": Figure(("dead_share", "update_to_weight", "distance_from_start"), ("phase",)),
    "learning": Figure(None),
    "masks_by_weights": Figure("flow_masks_on", ("phase", "baseline")),
    "ensemble": Figure(None),
    "flatness": Figure(None),
    "robustness": Figure(None),
    "ablation": Figure("ablation_interaction"),
    "gradient_direction": Figure(None),
}
"""What is drawn where nothing is chosen, in the order of the paper; dose and response where runs lie on an axis."""

MEASURED: Final = tuple(FIGURES)[tuple(FIGURES).index("learning") + 1 :]
"""Those of active measurements."""
CALL: Final = 'as in rec.measure("flatness", batch, loss_fn)'


def _names(incomplete: str) -> list[str]:
    return offered([*FIGURES, "gaaf", *QUANTITIES], incomplete)


@clear_errors()
def plot(
    runs: GroupsArgument,
    *,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE|FOLDER",
            help="A folder, for a file each; or with one --figure a file, whose ending is the format.",
        ),
    ],
    figure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=_names,
            help=f"{', '.join(FIGURES)}, gaaf, or any recorded quantity. Repeat it for several.",
            show_default="all but gaaf, as far as they are recorded",
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            autocompletion=layers,
            help="Layers whose name matches, as in 'layer2.*'. Repeat it for several.",
        ),
    ] = None,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="Repeat it for several.", show_default="png")
    ] = None,
    x: Annotated[
        str, typer.Option(metavar="KEY", help="Key of the runs' config whose number is the dose, for dose_response.")
    ] = "rate",
    phase: Annotated[
        str | None,
        typer.Option(
            help="Of net values, correlations and scalars.", show_default="held-out data where it was recorded"
        ),
    ] = None,
    baseline: Baseline = None,
    as_json: AsJson = False,
) -> None:
    """Draw the paper's figures, and any quantity over training, into files.

    **weights** is Figure 1, **correlation** 2, **gradient_flow** 3 with Table 2, **net_variance** 4, **saturation** 5,
    **gaaf** 6; **flow_decomposition** says what a difference in gradient flow is made of; **dropouts**, **health** and
    **learning** are what the runs did; **dose_response** sets it against the rate, where there are several. The others
    are of measurements that were made by name. A scalar of any name is drawn over training, a histogram as a
    distribution. What is not drawn is named with the reason; the exit code is 1 where it was asked for. Files that are
    there are replaced.

    **Examples**

    - `dropdiag plot "No dropout=runs/base-*" "Dropout=runs/drop-*" --out figures` : all that is recorded
    - `dropdiag plot runs --out flow.pdf --figure gradient_flow --layer 'layer[12].*'`
    - `dropdiag plot "sweep/runs/*" --out rate.png --figure dose-response --x rate`
    - `dropdiag plot runs --out figures --figure weights --figure effective_rank --format png --format svg`
    """
    chosen = [dashed if (dashed := name.replace("-", "_")) in FIGURES else name for name in figure or FIGURES]
    target, endings, is_file = _target(out, chosen if figure else [], [one.value for one in formats or ()])
    with warned() as problems:
        from dropdiag import plots  # noqa: PLC0415 - matplotlib is not paid for --help
        from dropdiag.analysis.compare.lenient import opened  # noqa: PLC0415

        found, unreadable = opened(groups(runs))
        _check_patterns(found, layer or ())
        files: list[str] = []
        absent: dict[str, str] = {}
        stems: set[str] = set()
        asked = {"phase": phase, "baseline": baseline, "x": x}
        for name in dict.fromkeys(chosen):
            try:
                drawn = _drawn(found, name, layer or (), asked)
            except (NotRecordedError, BaselineError, AxisError) as error:
                # hardly any runs are of several doses: where nobody asked for that figure, it is not missed
                absent |= {} if isinstance(error, AxisError) and not figure else {name: str(error)}
                continue
            # a quantity may be called "loss/train", or "../loss"; its file is not to lie in a folder of that name
            where = target if is_file else target / _stem(name, stems)
            files += [str(file) for file in plots.save(drawn, where, endings)]
        if not files:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
            raise NotRecordedError(f"nothing can be drawn of these runs. {reasons}")
    problems[:0] = unreadable
    document = {"files": files, "absent": absent, "runs": [str(run.path) for run in found], "problems": problems}
    answer(document, *(f"wrote {file}" for file in files), as_json=as_json)
    # Hardly a run has all measurements: where none was asked for, one line does.
    unmeasured = [] if figure else [name for name in absent if name in MEASURED]
    tell([f"{name}: {reason}" for name, reason in absent.items() if name not in unmeasured], "not drawn")
    if unmeasured:
        tell([f"{', '.join(unmeasured)}: a Recorder measures them where it is told to, {CALL}"], "not measured")
    finish(problems)
    if figure and absent:
        raise typer.Exit(1)


def _stem(name: str, taken: set[str]) -> str:
    """Return what the file of a figure is called, without its ending, and take it."""
    # "loss/train" is loss-train; where that is another figure's, and where it says nothing, a digest tells them apart
    plain = re.sub(r"[^\w.+=]+|[.](?=(?:png|svg|pdf)$)", "-", name).strip("-.")
    stem = plain if plain and file_name(plain, taken) == plain else file_name(name, taken)
    taken.add(stem.lower())
    return stem


def _target(out: Path, chosen: Sequence[str], formats: list[str]) -> tuple[Path, list[str], bool]:
    """Return the file or folder to write, the formats, and whether it is a file."""
    ending = out.suffix[1:].lower()
    if ending not in [one.value for one in Format] or out.is_dir():
        return check_folder(out), formats or [Format.png.value], False
    if len(set(chosen)) != 1:
        raise ArgumentError(f"{out} is one file and {len(set(chosen)) or 'many'} figures are asked for; "
                            "give a folder, or choose one with --figure")  # fmt: skip
    if formats and set(formats) != {ending}:
        raise ArgumentError(f"{out} ends in {ending!r} and --format says {', '.join(formats)}; leave one out")
    return check_file(out), [ending], True


def _check_patterns(runs: Runs, patterns: Sequence[str]) -> None:
    """Raise `ArgumentError` for a pattern that no layer of any run matches."""
    known = list(dict.fromkeys(str(row["layer"]) for run in runs for row in run.meta["layers"]))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ArgumentError(f"no layer matches {pattern!r}; there are {some(list(map(repr, known)), 8)}")


def _drawn(runs: Runs, name: str, patterns: Sequence[str], asked: dict[str, Any]) -> Any:
    """Draw one figure.

    Raises
    ------
    NotRecordedError
        If the runs do not hold what it shows.
    """
    from dropdiag import plots  # noqa: PLC0415

    if name == "gaaf":
        return plots.gaaf()
    make, what = _maker(runs, name)
    given = {option: asked[option] for option in what.options if asked[option] is not None}
    if patterns and what.layers_of is not None:
        of = (what.layers_of,) if isinstance(what.layers_of, str) else what.layers_of
        layers = dict.fromkeys(layer for quantity in of for layer in _layers(runs, quantity))
        given["layers"] = _matching(list(layers), patterns)
    return make(runs, **given)


def _maker(runs: Runs, name: str) -> tuple[Callable[..., Any], Figure]:
    from dropdiag import plots  # noqa: PLC0415
    from dropdiag.store.asked import did_you_mean  # noqa: PLC0415
    from dropdiag.store.schema import QUANTITIES  # noqa: PLC0415

    if name in FIGURES:
        return getattr(plots, name), FIGURES[name]
    kinds = {quantity: known.kind for run in runs for quantity, known in run.quantities.items()}
    # names that nobody describes were given to step() or log(): they are scalars, if they are any
    kind = kinds.get(name, QUANTITIES[name].kind if name in QUANTITIES else "scalar")
    draw = plots.distribution if kind == "histogram" else plots.scalar
    if kind == "scalar":
        meant = did_you_mean(name, [*FIGURES, "gaaf"]) if name not in kinds else ";"
        try:
            runs.select(name, steps=(0, 0))
        except NotRecordedError as error:
            raise NotRecordedError(f"there is no such figure{meant} {error}") from None
    return (lambda found, **given: draw(found, name, **given)), Figure(name, ("phase",))


def _layers(runs: Runs, what: str) -> Iterator[str]:
    """Yield the layers that a figure can draw, each once, in network order."""
    held = {str(row["layer"]) for run in runs for row in run.meta["layers"] if row["kind"] == what}
    if not held:
        for block in runs.blocks(what):
            held |= {name for name in block.keys["layer"].unique().to_pylist() if name is not None}
    if not held:
        for run in runs:
            last = run.recorded(lambda steps: {key: some[-1:] for key, some in steps.items() if key[0] == what})
            held |= set(last.table["layer"].unique().to_pylist())
    sites = runs.places.sorted((name, 0) for name in held)
    yield from dict.fromkeys(name for name, _ in sites)


def _matching(layers: Sequence[str], patterns: Sequence[str]) -> list[str] | None:
    """Return the layers that match one of the patterns; None where there is none to choose among."""
    if not layers:
        return None
    found = [name for name in layers if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not found:
        raise NotRecordedError(
            f"no layer of it matches {', '.join(map(repr, patterns))}; it has {some(list(map(repr, layers)), 8)}"
        )
    return found
