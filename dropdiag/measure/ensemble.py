"""The network without masks beside the mean of those that masks make of it, and what masks add to the loss.

A network with N units that are dropped or kept is 2^N networks that share their weights. At test time all units are
kept, which is said to be the geometric mean of their predictions: true of a softmax right behind the dropped layer,
and an approximation wherever a nonlinearity stands between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.interventions.sites import DropoutSite
from dropdiag.measure.averages.mixtures import Mixture, Scores, cases_of, divergence
from dropdiag.measure.averages.patterns import Patterns
from dropdiag.measure.averages.predictions import Ensemble, Predictions, Regulariser
from dropdiag.measure.passes.arguments import check_count, check_seed
from dropdiag.measure.passes.classes import are_whole, logits_of
from dropdiag.measure.passes.dropouts.kinds import may_mask
from dropdiag.measure.passes.loss import LossFunction, without_classes
from dropdiag.measure.passes.measurable import check_measurable, inner
from dropdiag.measure.passes.passes import Passes
from dropdiag.measure.passes.steady import steady_output
from dropdiag.measure.passes.tensors import tensors_in

ALL: Final = "all"


def ensemble(
    model: nn.Module,
    batch: object,
    targets: object = None,
    masks: int | str = 64,
    seed: int = 0,
    *,
    loss_fn: LossFunction | None = None,
    output: Callable[[Any], Any] | None = None,
    by_site: bool = True,
) -> Ensemble:
    """Set the output without masks beside the geometric and arithmetic mean over masks, and measure what masks add.

    Parameters
    ----------
    model : nn.Module
        Run in evaluation mode but for its dropouts, which are on or off whatever mode they are in.
    batch : Tensor, sequence or mapping
        What the model is called with; the pair (inputs, targets) where ``loss_fn`` takes targets and none are given, or
        without ``loss_fn`` the targets are class numbers and the model takes one argument.
    targets : Tensor, optional
        Class numbers of shape (samples,): then there are scores. What else a loss takes: then only the regulariser.
    masks : int or "all", default 64
        How many are drawn, at least 2; or all masks that there are, each with its probability as weight: for dropouts
        of `torch.nn.Dropout` with at most 12 units a sample. All samples then have the same mask at a time, which is
        the same mean wherever samples do not depend on one another and the loss is a mean over them.
    seed : int, default 0
        Of the masks. A dropout has the same masks alone as with others.
    loss_fn : callable, optional
        ``loss_fn(output)`` or ``loss_fn(output, targets)``; without it the cross entropy of class numbers.
    output : callable, optional
        Takes the logits, of shape (samples, classes), out of what the model gives; by default that itself or its
        ``logits``.
    by_site : bool, default True
        Whether to measure each dropout alone, which takes as many passes again for each.

    Returns
    -------
    Ensemble

    Raises
    ------
    ArgumentError
        For fewer than two masks, a model without dropouts or with other noise, an output that is no logits, targets
        that do not fit, ``masks="all"`` where that cannot be, and as `dropdiag.measure.passes.passes.Passes`.

    Notes
    -----
    ``KL(mean over masks || output without masks)``, averaged over cases, is 0 for the geometric mean where the dropped
    units go straight into the logits (Warde-Farley et al. 2014, arXiv:1312.6197), whatever the rate. Means over drawn
    masks are noisy, which makes the divergence too large, by about half the variance of the logits over masks divided
    by their number. How much that is, is told by the halves of the masks, of which each is off by twice as much
    (``ensemble_kl_geometric_bias``, to be taken off; Quenouille 1956): where the divergence is hardly more than that,
    more masks are needed.

    The arithmetic mean is the predictive distribution of "Monte Carlo dropout" (Gal & Ghahramani 2016,
    arXiv:1506.02142), the mutual information of output and mask its model uncertainty; of few masks it is too small.
    The regulariser is the explicit one of Wager et al. 2013 (arXiv:1307.1493): that of all dropouts is not the sum of
    those of each alone. The expected calibration error has 15 bins of equal width (Guo et al. 2017, arXiv:1706.04599);
    it depends on their number, and is too large on few cases.

    Memory: the model a second time, and a few float64 arrays of the logits' size, whatever the number of masks.

    Examples
    --------
    >>> found = dd.measure.ensemble(model, x, y, masks=16)
    >>> found.predictions.arithmetic.shape
    (60, 3)
    """
    _check(masks, seed)
    if loss_fn is None and targets is None:
        batch, targets = without_classes(inner(check_measurable(model)), batch)
    passes = Passes(model, batch, loss_fn, targets)
    sites = [site for site in passes.dropouts if may_mask(site)]
    if not sites:
        raise ArgumentError("the model has no dropout with a rate above 0, so that there is no ensemble")
    with passes.ready(seed, evaluation=True):
        measured = _Measured(passes, sites, output, steady_output(passes), masks)
        together = measured.over([site.name for site in sites], predictions=True)
        regularisers = [together]
        if by_site and passes.has_loss:
            regularisers += [measured.alone(site.name, together) for site in sites]
    return Ensemble(
        passes.count, seed, measured.masks, masks == ALL, measured.predictions(),
        tuple(regularisers) if passes.has_loss else (),
    )  # fmt: skip


def _check(masks: int | str, seed: int) -> None:
    check_seed(seed)
    if masks != ALL:
        if isinstance(masks, str):
            raise ArgumentError(f'masks must be a number of masks or "all", got {masks!r}')
        check_count("masks", masks, 2)


class _Measured:
    """Passes under masks, and what is kept of them."""

    def __init__(
        self,
        passes: Passes,
        sites: Sequence[DropoutSite],
        output: Callable[[Any], Any] | None,
        unmasked: Any,
        masks: int | str,
    ) -> None:
        self._passes, self._pick = passes, output
        self._loss = float(passes.loss_of(unmasked)) if passes.has_loss else math.nan
        targets = passes.classes
        self._classes = targets if are_whole(targets) else None
        self._is_logits = targets is None or self._classes is not None
        self._halves = Mixture(), Mixture()
        if self._is_logits:
            self._scaled, self._y = self._cases(unmasked)
        self._drawn = masks if isinstance(masks, int) else 0
        self._patterns = None if self._drawn else Patterns.of(passes, sites, _samples(unmasked, passes.inputs))
        self.masks = 0
        self._called: set[str] = set()

    def alone(self, name: str, together: Regulariser) -> Regulariser:
        """Return what the masks of one dropout add to the loss, once it is known which of them are called."""
        if name not in self._called:
            return Regulariser(name, None, None)
        one = self.over([name]) if len(self._called) > 1 else together
        return Regulariser(name, one.value, one.se)

    def over(self, names: Sequence[str], *, predictions: bool = False) -> Regulariser:
        """Go through masks of some dropouts; return what they add to the loss."""
        losses, weights = [], []
        for weight, masked in self._outputs(names):
            losses.append(float(self._passes.loss_of(masked)) if self._passes.has_loss else math.nan)
            weights.append(weight)
            if predictions and self._is_logits:
                self._halves[len(losses) % 2].add(self._cases(masked)[0], weight)
        if predictions:
            self.masks = len(losses)
            if not self._called:
                raise ArgumentError("no dropout was called in a pass, so that there is no ensemble")
        mean = math.fsum(w * x for w, x in zip(weights, losses, strict=True)) / math.fsum(weights)
        error = 0.0 if self._patterns is not None else float(np.std(losses, ddof=1) / math.sqrt(len(losses)))
        return Regulariser(None, mean - self._loss, error)

    def predictions(self) -> Predictions | None:
        """Return what the means over masks are."""
        if not self._is_logits:
            return None
        whole = self._halves[0] + self._halves[1]
        found = {"weight_scaled": self._scaled, "geometric": whole.geometric(), "arithmetic": whole.arithmetic()}
        arrays = {name: log_p.cpu().numpy() for name, log_p in found.items()}
        kl = {name: divergence(found[name], self._scaled) for name in ("geometric", "arithmetic")}
        return Predictions(
            arrays["weight_scaled"], arrays["geometric"], arrays["arithmetic"],
            kl["geometric"], kl["arithmetic"],
            self._bias(kl["geometric"], Mixture.geometric), self._bias(kl["arithmetic"], Mixture.arithmetic),
            mean_entropy=float(whole.mean_entropy().mean()),
            scores={} if self._y is None else {name: Scores.of(log_p, self._y) for name, log_p in found.items()},
        )  # fmt: skip

    def _bias(self, kl: float, mean: Callable[[Mixture], Tensor]) -> float:
        """Return how much a divergence is too large by, as it is off by a share of 1/M of M masks."""
        if self._patterns is not None:
            return 0.0
        of_halves = [divergence(mean(half), self._scaled) for half in self._halves]
        first, second = self.masks - self.masks // 2, self.masks // 2
        more = (1 / first + 1 / second) / 2 - 1 / self.masks
        return (sum(of_halves) / 2 - kl) / self.masks / more

    def _outputs(self, names: Sequence[str]) -> Iterator[tuple[float, Any]]:
        """Give the weight of each mask, and the model's output under it."""
        on = dict.fromkeys(names, True)
        if self._patterns is not None:
            for pattern in self._patterns(names):
                with self._passes.switched(on, pattern.factor) as switches:
                    masked = self._passes.forward()
                self._called |= set() if switches is None else switches.drawn
                yield pattern.probability, masked
            return
        with self._passes.switched(on) as switches:
            for k in range(1, self._drawn + 1):
                self._passes.seed(k)
                masked = self._passes.forward()
                self._called |= set() if switches is None else switches.drawn
                yield 1.0, masked

    def _cases(self, output: Any) -> tuple[Tensor, Tensor | None]:
        return cases_of(logits_of(output, self._pick), self._classes)


def _samples(output: Any, inputs: Any) -> int:
    """Return the number of samples, by what the model gives or else takes."""
    first = next((tensor for tensor in (*tensors_in(output), *tensors_in(inputs)) if tensor.ndim), None)
    return 0 if first is None else len(first)
