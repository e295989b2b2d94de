"""What the networks of a sweep ended with on held-out data."""

from __future__ import annotations

from typing import Final

import pandas as pd

from dropdiag.store.reader import Runs
from dropdiag.store.schema import TRAIN, quantity_of

COLUMNS: Final = ("condition", "seed", "run", "phase", "quantity", "value")


def finals(runs: Runs) -> pd.DataFrame:
    """Return the last value of each number that `train` logged of held-out data, for the network as a whole.

    Parameters
    ----------
    runs : Runs

    Returns
    -------
    DataFrame
        Columns condition, seed, run, phase, quantity, value: a row a run, phase and quantity. A value that was not
        finite stays as it is.
    """
    found = [_ends(frame) for frame in runs.batches(layer=[None])]
    kept = [frame for frame in found if not frame.empty]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=list(COLUMNS))


def _ends(frame: pd.DataFrame) -> pd.DataFrame:
    own = [name for name in frame["quantity"].unique() if quantity_of(name) is not None]
    frame = frame[(frame["phase"] != TRAIN) & ~frame["quantity"].isin(own)]
    keys = ["run", "phase", "quantity"]
    last = frame.sort_values("step", kind="stable").groupby(keys, sort=False, observed=True).tail(1)
    return last[list(COLUMNS)].astype(dict.fromkeys(("condition", *keys), "object"))
