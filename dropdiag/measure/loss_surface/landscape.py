"""How a loss rises away from the weights: relative flatness, and along filter-normalised directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import torch
from torch import Tensor

from dropdiag.measure.loss_surface.curvature import Hessian
from dropdiag.measure.loss_surface.estimates import NoValueError, mean_and_error
from dropdiag.measure.loss_surface.rows import Weight
from dropdiag.measure.passes.vectors import dot, norm, normal, sign

Parameters: TypeAlias = Mapping[str, Tensor]
Evaluate: TypeAlias = Callable[[], float]
"""Gives the loss at the parameters as they are now."""

_BLOCK: Final = 2**22
"""Numbers of a random matrix that are drawn at a time."""


def along_rows(weight: Weight, w: Tensor, generator: torch.Generator) -> Tensor:
    """Return ``w u`` for a random matrix u of +1 and -1 that mixes what comes into a node, alike for all nodes.

    Parameters
    ----------
    weight : Weight
    w : Tensor
    generator : torch.Generator

    Returns
    -------
    Tensor
        Of the shape of `w`.
    """
    rows = weight.rows(w)
    groups, _, inputs = rows.shape
    wide = max(1, _BLOCK // (groups * inputs))
    widths = [min(wide, inputs - at) for at in range(0, inputs, wide)]
    mixed = [rows @ sign((groups, inputs, width), w, generator) for width in widths]
    return weight.weight(torch.cat(mixed, 2), w)


def relative_flatness(
    hessian: Hessian, parameters: Parameters, weights: Sequence[Weight], samples: int, generator: torch.Generator
) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Estimate the relative flatness of each weight, and its sum, with standard errors.

    With w_s the row of node s and H_ss' the block of the Hessian for rows s and s', it is (Petzka et al. 2021)
    ``sum_ss' <w_s, w_s'> tr H_ss' = tr((W' x I) H (W x I))``. The estimate is the mean of ``<v, Hv>`` over
    ``v = W u``, u of random signs, all weights at once: the curvature along a change of each layer that is a linear map
    of its inputs. Of each weight only its own part of ``Hv`` counts; what other layers' v add to it has mean 0.

    Parameters
    ----------
    hessian : Hessian
        In the order of `parameters`.
    parameters : mapping of str to Tensor
    weights : sequence of Weight
        Of parameters that are known by rows.
    samples : int
        Products with the Hessian.
    generator : torch.Generator

    Returns
    -------
    each : list of (float, float)
        Estimate and standard error, in the order of `weights`.
    total : (float, float)
        Of their sum.
    """
    place = {name: i for i, name in enumerate(parameters)}
    drawn: list[list[float]] = []
    for _ in range(samples):
        vector = [torch.zeros_like(p) for p in parameters.values()]
        for weight in weights:
            at = place[weight.parameter]
            vector[at] = along_rows(weight, parameters[weight.parameter].detach(), generator)
        product = hessian.times(vector)
        drawn.append([dot([vector[place[w.parameter]]], [product[place[w.parameter]]]) for w in weights])
    each = [mean_and_error(values) for values in zip(*drawn, strict=True)]
    return each, mean_and_error([sum(values) for values in drawn])


def filter_normalised(parameters: Parameters, weights: Sequence[Weight], generator: torch.Generator) -> list[Tensor]:
    """Draw a direction in which each row is as long as the same row of the weights (Li et al. 2018).

    Parameters
    ----------
    parameters : mapping of str to Tensor
    weights : sequence of Weight
        Those of two dimensions or more. All other parameters (biases, scales and shifts of norms) do not move.
    generator : torch.Generator

    Returns
    -------
    list of Tensor
        One a parameter.
    """
    known = {weight.parameter: weight for weight in weights}
    return [_normalised(p.detach(), known.get(name), generator) for name, p in parameters.items()]


def _normalised(w: Tensor, weight: Weight | None, generator: torch.Generator) -> Tensor:
    if weight is None:
        return torch.zeros_like(w)
    rows = weight.rows(w)
    drawn = normal(rows.shape, w, generator)
    lengths = torch.linalg.vector_norm(rows, dim=2, keepdim=True) / torch.linalg.vector_norm(drawn, dim=2, keepdim=True)
    return weight.weight(drawn * lengths, w)


class Place:
    """Where the parameters are: they can be moved from there, and come back at the end of a `with`.

    Attributes
    ----------
    start : dict of str to Tensor
        The parameters as they were.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self.start = {name: p.detach().clone() for name, p in parameters.items()}

    def move(self, direction: Sequence[Tensor], size: float) -> None:
        """Put the parameters at so many times a direction from the start: no rounding adds up over moves."""
        with torch.no_grad():
            for (name, p), d in zip(self._parameters.items(), direction, strict=True):
                p.copy_(self.start[name] + size * d)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for name, p in self._parameters.items():
                p.copy_(self.start[name])


def loss_rises(
    evaluate: Evaluate,
    first: float,
    parameters: Parameters,
    weights: Sequence[Weight],
    *,
    sizes: Sequence[float],
    directions: int,
    generator: torch.Generator,
) -> list[list[float]]:
    """Return how much the loss is above what it was at first, for each size in so many filter-normalised directions.

    Each is the mean of a step along a direction and one the other way: the slope, which is as often up as down, drops
    out. The directions are the same for all sizes. Memory: three times the parameters.
    """
    rises: list[list[float]] = [[] for _ in sizes]
    with Place(parameters) as place:
        for _ in range(directions):
            direction = filter_normalised(place.start, weights, generator)
            for found, size in zip(rises, sizes, strict=True):
                found.append(sum(_at(place, direction, step, evaluate) - first for step in (size, -size)) / 2.0)
    return rises


def _at(place: Place, direction: Sequence[Tensor], size: float, evaluate: Evaluate) -> float:
    place.move(direction, size)
    return evaluate()


def sharpness(
    evaluate: Evaluate, first: float, parameters: Parameters, gradient: Sequence[Tensor], rho: float
) -> float:
    """Return how much the loss rises, from what it was at first, over a step of length rho along its gradient.

    To first order that is the highest loss within rho of the weights (Foret et al. 2021).

    Raises
    ------
    NoValueError
        Where the gradient is zero or not finite: it then shows no way up. Where the loss is not finite there.
    """
    length = norm(gradient)
    if not 0.0 < length < float("inf"):
        raise NoValueError(f"the gradient's length is {length:g}, so that it shows no way up")
    with Place(parameters) as place:
        rise = _at(place, gradient, rho / length, evaluate) - first
    if not math.isfinite(rise):
        raise NoValueError(f"the loss is not finite a step of {rho:g} along the gradient away")
    return rise
