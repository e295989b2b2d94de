"""Which layer of a condition stands beside which layer of its baseline: by name, by position, as given by `match=`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from dropdiag.analysis.select import check
from dropdiag.errors import ArgumentError
from dropdiag.formatting import some
from dropdiag.store.reader import Run, Runs

KINDS: Final = {"weight": "weights", "activation": "activations", "output": "outputs"}
DROPOUT: Final = "dropout"
"""Kind of the sites that a condition may lack without being another network."""


@dataclass(frozen=True)
class Matched:
    """Layers of one condition beside those of the baseline.

    Attributes
    ----------
    layers : dict of str to str
        Layer of the baseline -> layer of the condition, in the baseline's network order.
    by_position : frozenset of str
        Layers of the baseline that were matched by their position.
    unmatched : tuple of (str, str, str)
        Condition that has it, layer, and the reason.
    """

    layers: dict[str, str]
    by_position: frozenset[str]
    unmatched: tuple[tuple[str, str, str], ...]


def sites(runs: Runs, condition: str) -> dict[str, str]:
    """Layers of a condition and their kind, dropouts among them, in network order."""
    own = of_condition(runs, condition)
    kinds = {layer: kind for run in own for layer, (kind, _) in _shapes(run, {*KINDS, DROPOUT}).items()}
    return {layer: kinds[layer] for layer in own.places.layers(kinds)}


def of_condition(runs: Runs, condition: str) -> Runs:
    """Return the runs of one condition."""
    return Runs([run for run in runs if run.condition == condition])


def matched(runs: Runs, baseline: str, condition: str, match: Mapping[str, str] | None = None) -> Matched:
    """Match the layers of a condition with those of the baseline.

    Parameters
    ----------
    runs : Runs
    baseline, condition : str
    match : mapping of str to str, optional
        Layer of the baseline -> layer of the condition: goes before the rest. Pairs of which this condition has
        no layer are left to the others.

    Returns
    -------
    Matched
        First as ``match`` says, then those of one name and kind; what is left of a kind by its place, if the
        two networks have equally many layers of the kind.
    """
    mine, theirs = sites(runs, baseline), sites(runs, condition)
    # what the user says goes first, and may be meant for another condition than this one
    pairs = {one: other for one, other in (match or {}).items() if one in mine and other in theirs}
    taken = set(pairs.values())
    pairs |= {name: name for name in mine if theirs.get(name) == mine[name] and name not in pairs.keys() | taken}
    by_position, unmatched = dict[str, str](), list[tuple[str, str, str]]()
    for kind, plural in {**KINDS, DROPOUT: "dropouts"}.items():
        counts = [sum(k == kind for k in side.values()) for side in (mine, theirs)]
        left = [name for name in mine if mine[name] == kind and name not in pairs]
        right = [name for name in theirs if theirs[name] == kind and name not in pairs.values()]
        # by position only where the networks have as many layers of the kind: else every guess after a gap is wrong
        if counts[0] == counts[1] and len(left) == len(right):
            by_position |= dict(zip(left, right, strict=True))
            continue
        if kind == DROPOUT:  # a condition without dropout lacks none
            continue
        why = f"no layer of this name, and the networks have {counts[0]} and {counts[1]} {plural}"
        unmatched += [(baseline, name, f"{condition!r} has {why}") for name in left]
        unmatched += [(condition, name, f"{baseline!r} has {why}") for name in right]
    together = pairs | by_position
    layers = {name: together[name] for name in mine if name in together}
    return Matched(layers, frozenset(by_position), tuple(unmatched))


def check_match(runs: Runs, baseline: str, match: Mapping[str, str] | None) -> None:
    """Raise `ArgumentError` where ``match`` names a layer that there is not, or one twice."""
    if match is None:
        return
    if not isinstance(match, Mapping):
        raise ArgumentError(f"match= takes a dict layer of the baseline -> layer of the others, got {match!r}")
    check("layer", list(match), sites(runs, baseline))
    others = [name for name in runs.conditions if name != baseline]
    check("layer", list(match.values()), {layer: None for name in others for layer in sites(runs, name)})
    twice = sorted({name for name in match.values() if list(match.values()).count(name) > 1})
    if twice:
        raise ArgumentError(f"match= gives {twice[0]!r} for several layers; a layer stands beside one other")


def layer_mismatches(runs: Runs) -> list[str]:
    """Return a sentence for each run whose layers are not those of its condition's first run."""
    firsts: dict[str, Run] = {}
    found = []
    for run in runs:
        first = firsts.setdefault(run.condition, run)
        mine, its = (_shapes(one) for one in (run, first))
        differing = {
            "without": [name for name in its if name not in mine],
            "with": [name for name in mine if name not in its],
            "of other shape:": [name for name in mine if mine[name] != its.get(name, mine[name])],
        }
        what = "; ".join(f"{how} {some(list(map(repr, names)))}" for how, names in differing.items() if names)
        if what:
            found.append(f"{run.path} has other layers than {first.path.name} of the same condition ({what}).")
    return found


def as_frame(matches: Mapping[str, Matched]) -> pd.DataFrame:
    """Return what did not match as a frame with columns condition, layer, reason."""
    rows = list(dict.fromkeys(row for one in matches.values() for row in one.unmatched))
    return pd.DataFrame(rows, columns=["condition", "layer", "reason"])


def _shapes(run: Run, kinds: Collection[str] = KINDS) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Kind and shape of each layer of some kinds."""
    listed = [site for site in run.meta["layers"] if site["kind"] in kinds]
    return {str(site["layer"]): (str(site["kind"]), tuple(site.get("shape") or ())) for site in listed}
