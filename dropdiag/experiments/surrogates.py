"""Conditions in which a surrogate derivative takes the place of the activation function's: GAAF's relatives."""

from __future__ import annotations

from typing import Final

STRAIGHT_THROUGH: Final = "Straight-through"
SURROGATES: Final = {"SUGAR B-SiLU": "b-silu", "SUGAR NeLU": "nelu", STRAIGHT_THROUGH: "straight-through"}
"""Condition -> name of its surrogate; see `dropdiag.gaaf.surrogates`. They have to be named to be trained."""

IN_WORDS: Final = {
    "SUGAR B-SiLU": "ReLU forward, the derivative of B-SiLU (arXiv:2505.22074) backward",
    "SUGAR NeLU": "ReLU forward, the derivative of NeLU (arXiv:2505.22074) backward",
    STRAIGHT_THROUGH: "the activation function forward, the derivative 1 backward",
}
"""Condition -> its description."""
