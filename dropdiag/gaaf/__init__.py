"""GAAF, the gradient acceleration of Hahn and Choi (arXiv:1806.09783): use it, put it into a model, fit it.

`GAAF`
    The activation function phi(x) + g(x) s(x), over any phi, with any shape function s.
`replace`
    Puts it in the place of the activation modules of a built model, and back.
`fit`
    Chooses height and width of s such that the gradient gained is that of dropout at a rate.
`Surrogate`
    A derivative that takes the place of another one: GAAF's relatives, by name or of one's own.
`gaussian`, `shifted_sigmoid`, `constant`, `derivative_complement`, `port_shape`
    Shape functions.
`saw_tooth`
    g.
"""

from dropdiag.gaaf.activation import GAAF, saw_tooth
from dropdiag.gaaf.fit import Fit, LayerFit, fit
from dropdiag.gaaf.replace import Replacement, replace
from dropdiag.gaaf.shapes import constant, derivative_complement, gaussian, port_shape, shifted_sigmoid
from dropdiag.gaaf.surrogates import Surrogate

__all__ = [
    "GAAF", "Fit", "LayerFit", "Replacement", "Surrogate", "constant", "derivative_complement", "fit", "gaussian",
    "port_shape", "replace", "saw_tooth", "shifted_sigmoid",
]  # fmt: skip
