"""The zoo: every network that the Recorder must see whole and leave as it is."""

from __future__ import annotations

from tests.zoo import (
    checkpoints,
    dropouts,
    from_timm,
    from_transformers,
    functions,
    generative,
    hard,
    masks,
    odd,
    orders,
    sequences,
    signals,
)

ZOO = (
    *from_timm.NETWORKS,
    *from_transformers.NETWORKS,
    *sequences.NETWORKS,
    *generative.NETWORKS,
    *functions.NETWORKS,
    *checkpoints.NETWORKS,
    *odd.NETWORKS,
    *hard.NETWORKS,
    *dropouts.NETWORKS,
    *masks.NETWORKS,
    *orders.NETWORKS,
    *signals.NETWORKS,
)
