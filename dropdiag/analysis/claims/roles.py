"""Which condition plays dropout, and which play GAAF: as given, else inferred from their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dropdiag.analysis.baseline import WITHOUT
from dropdiag.analysis.select import check
from dropdiag.errors import ArgumentError


@dataclass(frozen=True)
class Roles:
    """Conditions that claims (e) and (f) speak of; None where there is none.

    Attributes
    ----------
    dropout : str or None
    gaafs : tuple of str
        Claims are put to each; one called "GAAF" is the first.
    guessed : tuple of str
        A sentence for each that was not given: of dropout, then of each in ``gaafs``.
    """

    dropout: str | None
    gaafs: tuple[str, ...]
    guessed: tuple[str, ...]

    @property
    def gaaf(self) -> str | None:
        """The first condition that plays GAAF."""
        return self.gaafs[0] if self.gaafs else None

    def guesses(self, gaaf: str) -> list[str]:
        """Return what was guessed where this condition plays GAAF."""
        others = tuple(f"{name!r} is taken for GAAF" for name in self.gaafs if name != gaaf)
        return [said for said in self.guessed if not said.startswith(others)]


def infer_roles(conditions: Sequence[str], dropout: str | None, gaaf: str | None) -> Roles:
    """Find who plays dropout and GAAF.

    Parameters
    ----------
    conditions : sequence of str
        The baseline first: it plays neither unless given.
    dropout, gaaf : str, optional
        A condition; None: inferred from the name, and the reason states the guess. GAAF: every condition whose name
        holds "gaaf". Dropout: the one called "dropout", else the only other one whose name holds "drop", else the only
        other one there is. A name with "no" or "without" in it is none.

    Raises
    ------
    ArgumentError
        If a condition does not exist, or plays both.
    """
    for given in (dropout, gaaf):
        check("condition", None if given is None else [given], conditions)
    if gaaf is not None and gaaf == dropout:
        raise ArgumentError(f"{gaaf!r} cannot be both dropout= and gaaf=; name two conditions")
    guessed: list[str] = []
    like = [name for name in conditions[1:] if "gaaf" in name.lower() and not WITHOUT.search(name) and name != dropout]
    # a plain "GAAF" is what the paper compares; its variants come after
    like.sort(key=lambda name: name.strip().lower() != "gaaf")
    gaafs = like if gaaf is None else [gaaf]
    if dropout is None:
        # "No dropout" holds "drop" too
        others = [name for name in conditions[1:] if name not in (*like, *gaafs) and not WITHOUT.search(name)]
        exact = [name for name in others if name.strip().lower() == "dropout"]
        alike = [name for name in others if "drop" in name.lower()]
        # where several would do, a choice among them would decide the verdict: then nobody plays dropout
        dropout = next((names[0] for names in (exact, alike, others) if len(names) == 1), None)
        guessed += [] if dropout is None else [f"{dropout!r} is taken for dropout"]
    if gaaf is None:
        guessed += [f"{name!r} is taken for GAAF by its name" for name in gaafs]
    return Roles(dropout, tuple(gaafs), tuple(guessed))
