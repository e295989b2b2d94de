"""Whether runs of one seed are pairs: they began with the same weights, and saw the same batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from dropdiag.experiments.sweep.axes import CONDITION, SEED
from dropdiag.formatting import some

GENERATOR: Final = (
    "dropout draws from the default generator, which also shuffles; give the DataLoader "
    'generator=torch.Generator().manual_seed(config["seed"])'
)


@dataclass(frozen=True)
class Begun:
    """What is known of how a run began: see `dropdiag.recording.watching.origin`."""

    condition: str
    seed: int
    weights: str | None
    batches: Mapping[int, str]
    end: str | None
    steps: int

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Begun:
        """Return what ``run.json`` says of it."""
        config, origin = meta["config"], meta.get("origin") or {}
        batches = {int(step): digest for step, digest in (origin.get("batches") or {}).items()}
        return cls(
            str(config[CONDITION]), int(config[SEED]), origin.get("weights"), batches, origin.get("end"), meta["steps"]
        )


@dataclass(frozen=True)
class Pairing:
    """What runs of equal seed have in common over conditions.

    Attributes
    ----------
    weights : bool or None
        Whether they began with the same weights; None where that is not known.
    batches : bool or None
        Whether they saw the same batches at all steps that were looked at.
    same_up_to, differ_from : int or None
        The last step before batches differ at which they were looked at and found the same in all, and the first at
        which they were not.
    looked_at, last, steps : int
        How many steps were looked at in all runs, the last of them, and how many steps the shortest run has.
    remarks : tuple of str
    """

    weights: bool | None
    batches: bool | None
    same_up_to: int | None
    differ_from: int | None
    looked_at: int
    last: int
    steps: int
    remarks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``sweep.json`` holds it, which has the remarks elsewhere."""
        return {key: value for key, value in asdict(self).items() if key != "remarks"}


def pairing(metas: Iterable[Mapping[str, Any]]) -> Pairing:
    """Compare the runs of each seed with each other, and the seeds of each condition.

    Parameters
    ----------
    metas : iterable of mapping
        ``run.json`` of completed runs.
    """
    begun = [Begun.of(meta) for meta in metas]
    pairs = [group for group in _groups(begun, SEED).values() if len(group) > 1]
    weights = _all_equal([[one.weights for one in group] for group in pairs])
    differ, looked_at = _first_difference(pairs), _looked_at(pairs)
    batches = None if not looked_at else differ is None
    same = [step for step in looked_at if differ is None or step < differ]
    found = Pairing(
        weights, batches, max(same, default=None), differ, len(looked_at), max(looked_at, default=0),
        min((one.steps for group in pairs for one in group), default=0), (),
    )  # fmt: skip
    said = [*(_sentences(found) if pairs else ()), *_same_end(pairs), *_copies(begun)]
    return Pairing(**{**asdict(found), "remarks": tuple(said)})


def _groups(begun: Sequence[Begun], by: str) -> dict[Any, list[Begun]]:
    groups: dict[Any, list[Begun]] = {}
    for one in begun:
        groups.setdefault(getattr(one, by), []).append(one)
    return groups


def _all_equal(groups: Sequence[Sequence[str | None]]) -> bool | None:
    """Whether the digests of each group are the same: not known where one is missing and none differ."""
    if any(len(set(group) - {None}) > 1 for group in groups):
        return False
    return None if not groups or any(None in group for group in groups) else True


def _looked_at(pairs: Sequence[Sequence[Begun]]) -> list[int]:
    """Return the steps whose batches are known of all runs; of the runs of a seed alone it takes all of them."""
    known = [set(one.batches) for group in pairs for one in group]
    return sorted(set.intersection(*known)) if known else []


def _first_difference(pairs: Sequence[Sequence[Begun]]) -> int | None:
    steps = [
        step
        for group in pairs
        for step in set.intersection(*(set(one.batches) for one in group))
        if len({one.batches[step] for one in group}) > 1
    ]
    return min(steps, default=None)


def _sentences(found: Pairing) -> Iterator[str]:
    yield {
        True: "Runs of one seed began with the same weights in all conditions.",
        False: "Runs of one seed did not begin with the same weights in all conditions: their differences hold those "
        "of the initial weights as well.",
        None: "Whether runs of one seed began with the same weights is not known: not all could be read.",
    }[found.weights]
    checked = f"{found.looked_at} steps were looked at, the last one step {found.last} of {found.steps}"
    if found.batches is None:
        yield "Whether runs of one seed saw the same batches is not known: there is no step whose inputs all runs know."
    elif found.batches:
        yield f"Runs of one seed saw the same batches in all conditions ({checked})."
    else:
        begin, same, differ = "from the first step on", found.same_up_to, found.differ_from
        if same is not None and differ is not None:
            begin = f"from step {differ} on" if differ == same + 1 else f"from step {differ} on, or some steps before"
            begin += f" (the same up to step {same})"
        yield f"Runs of one seed did not see the same batches in all conditions, {begin}: {GENERATOR}."


def _same_end(pairs: Sequence[Sequence[Begun]]) -> Iterator[str]:
    """Tell of conditions that ended with the same weights: what was to make them differ has not."""
    found: dict[frozenset[str], list[int]] = {}
    for group in pairs:
        ends: dict[str, list[str]] = {}
        for one in group:
            if one.end is not None:
                ends.setdefault(one.end, []).append(one.condition)
        for conditions in ends.values():
            if len(conditions) > 1:
                found.setdefault(frozenset(conditions), []).append(group[0].seed)
    for together, seeds in found.items():
        yield (
            f"{' and '.join(sorted(together))} ended with the same weights, bit for bit (seed {_numbers(seeds)}): what "
            "was to make them differ has no effect on training; see how train uses it."
        )


def _copies(begun: Sequence[Begun]) -> Iterator[str]:
    """Tell of seeds of one condition that began alike."""
    for condition, group in _groups(begun, CONDITION).items():
        alike: dict[tuple[str, str], list[int]] = {}
        for one in group:
            if one.weights is not None and one.end is not None:
                alike.setdefault((one.weights, one.end), []).append(one.seed)
        for seeds in alike.values():
            if len(seeds) > 1:
                yield (
                    f"Seeds {_numbers(seeds)} of {condition} are one training, bit for bit, that counts several times: "
                    'train sets a seed of its own; use config["seed"], or set none.'
                )


def _numbers(seeds: Sequence[int]) -> str:
    return some([str(seed) for seed in sorted(seeds)], 5)
