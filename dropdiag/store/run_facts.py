"""What a run says of itself: what it is called, which group it belongs to, its layers, who recorded it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dropdiag.errors import ArgumentError, RunError
from dropdiag.printable import well_formed
from dropdiag.store.order import Places, Site, listed, ranks, recorded
from dropdiag.store.processes import is_gone
from dropdiag.store.ranks.group import Group
from dropdiag.store.schema import Quantity, quantities_of
from dropdiag.store.seeds import seed_of
from dropdiag.store.storage.places import is_remote

if TYPE_CHECKING:
    import pandas as pd


ENDED: Final = "ended without closing"


def state_of(meta: Mapping[str, Any]) -> str:
    """Return the state of a run, as `RunFacts.state` does, from its ``run.json``."""
    state, sessions = str(meta.get("state")), meta.get("sessions") or [{}]
    return ENDED if state == "running" and is_gone(sessions[-1]) else state


class RunFacts:
    """What ``run.json`` says of a run: no other file is read. See `dropdiag.store.run.Run`."""

    path: Path
    meta: dict[str, Any]
    group: Group | None
    _condition: str | None

    @cached_property
    def name(self) -> str:
        r"""Name of the run folder, behind links; bytes of it that are no text as escapes (``\xff``)."""
        # resolving looks at every folder above: of thousands of runs, half of the time that opening them takes
        plain = self.path.name not in ("", "..") and (is_remote(self.path) or not self.path.is_symlink())
        return well_formed(self.path.name if plain else self.path.resolve().name)

    @property
    def id(self) -> str | None:
        """Random identifier that the run got when it began, in every copy of it; None for runs that have none yet."""
        found = self.meta.get("id")
        return None if found is None else str(found)

    @property
    def condition(self) -> str:
        """Group of the run: as given to `load`, else ``config["condition"]`` as text, else the run's name.

        What Python takes for false is a condition as any other: 0, 0.0, False and "" are "0", "0.0", "False" and "".
        """
        given = self.meta["config"].get("condition") if self._condition is None else self._condition
        return self.name if given is None else well_formed(str(given))

    @property
    def names_condition(self) -> bool:
        """Whether the condition was given, to `load` or in the config, and is not the run's name."""
        return self._condition is not None or self.meta["config"].get("condition") is not None

    @cached_property
    def seed(self) -> int | None:
        """``config["seed"]``, the unit of replication; None where the config has none.

        Raises
        ------
        RunError
            If it is no integer.
        """
        try:
            return seed_of(self.meta["config"])
        except ArgumentError as error:
            raise RunError(f"{self.path / 'run.json'} is damaged: {error}") from None

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Sites in network order (of execution, where it was recorded): layer, call, kind, type, activation, shape."""
        import pandas as pd  # noqa: PLC0415 - readers of histograms alone need no pandas

        return pd.DataFrame(self.meta["layers"])

    @cached_property
    def order(self) -> dict[Site, int]:
        """Rank of each site (layer, call) in the order of execution; empty where none was recorded (schema 1).

        Sites of one rank stand in parallel branches, or changed places while they were recorded.
        """
        return ranks(recorded(self.meta))

    @cached_property
    def places(self) -> Places:
        """Where the sites stand: in the order of execution, or, where none was recorded, as `layers` lists them."""
        return Places(listed(self.meta))

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """What is known of each quantity (unit, label, scale): as the run's probes say, else dropdiag's own.

        Names that neither knows are those of `Recorder.step` and `Recorder.log`, and of probes that declare nothing.
        """
        return quantities_of(self.meta)

    @property
    def of_ranks(self) -> str:
        """How many ranks it is read from, in words: "4 ranks", "3 of 4 ranks"; empty of a run of one process."""
        return "" if self.group is None else self.group.words

    @property
    def merges(self) -> bool:
        """Whether it is read from several ranks."""
        return self.group is not None and len(self.group.ranks) > 1

    @property
    def state(self) -> str:
        """How it ended: "completed", "failed" or "interrupted"; "running"; or "ended without closing".

        The last of a run whose process is gone: it was killed, or left by ``os._exit``. Of one that another machine
        recorded nobody can tell here, it reads "running".
        """
        return state_of(self.meta)

    @property
    def is_growing(self) -> bool:
        """Whether it is still being recorded, as far as can be told."""
        return self.state == "running" or (self.group is not None and self.group.is_growing)
