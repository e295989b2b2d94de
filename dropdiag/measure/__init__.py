"""Active measurements: passes of their own that leave the model as it was.

`net_variance`
    The variance that dropout masks give to each net value, beside its closed form, and the gradient that saturated
    nodes get from it. Returns a `NetVariance` of `LayerNetVariance`.
`masks_by_weights`
    Gradient flow of the same batch with masks off and on, under the weights of two conditions: whether what dropout
    changes is the masks' doing or that of the weights which they led to. Returns `MasksByWeights`
    (`LayerMasksByWeights`) for two models, and `FlowUnderMasks` (`LayerFlow`) for one.
`ensemble`
    The output without masks beside the geometric and arithmetic mean over masks, and what masks add to the loss.
    Returns an `Ensemble` (`Predictions`, `Regulariser`).
`flatness`
    How flat the loss is around the weights: eigenvalues and trace of the Hessian, rise of the loss, sharpness. Returns
    a `FlatnessResult`.
`robustness`
    How the loss and the accuracy bear noise on the inputs. Returns a `RobustnessResult`.
`ablation`
    What groups of nodes do to the loss together, beyond what each does alone (causal co-adaptation). Returns an
    `Ablation` (`LayerAblation`).
`gradient_direction`
    How far the gradients of mini-batches lie apart in direction, with masks on and off, and their noise scale. Returns
    a `GradientDirection`.
`Result`, `Value`, `Cost`
    What all results but net variance's are: numbers by quantity and layer, and how many passes they took.
"""

from dropdiag.measure.ablating.result import Ablation, LayerAblation
from dropdiag.measure.ablation import ablation
from dropdiag.measure.averages.predictions import Ensemble, Predictions, Regulariser
from dropdiag.measure.ensemble import ensemble
from dropdiag.measure.flatness import FlatnessResult, flatness
from dropdiag.measure.flows.flow import FlowUnderMasks, LayerFlow
from dropdiag.measure.flows.four_cells import LayerMasksByWeights, MasksByWeights
from dropdiag.measure.gradient_direction import GradientDirection, gradient_direction
from dropdiag.measure.masks_by_weights import masks_by_weights
from dropdiag.measure.net_variance import net_variance
from dropdiag.measure.result import Cost, Result, Value
from dropdiag.measure.robustness import RobustnessResult, robustness
from dropdiag.store.net_variance import LayerNetVariance, NetVariance

__all__ = [
    "Ablation", "Cost", "Ensemble", "FlatnessResult", "FlowUnderMasks", "GradientDirection", "LayerAblation",
    "LayerFlow", "LayerMasksByWeights", "LayerNetVariance", "MasksByWeights", "NetVariance", "Predictions",
    "Regulariser", "Result", "RobustnessResult", "Value", "ablation", "ensemble", "flatness", "gradient_direction",
    "masks_by_weights", "net_variance", "robustness",
]  # fmt: skip
