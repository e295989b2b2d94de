"""Reads, at a tensor between two of the chain, which part of its gradient came by the chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from dropdiag.model.hook_base import dispatch_modes
from dropdiag.recording.overhead import Overhead, clock
from dropdiag.sketches.moments import AbsMean
from dropdiag.sketches.native import PLAIN

Known: TypeAlias = dict[tuple[Any, ...], bool]
"""Of each place between two tensors, whether it was seen to have users off the chain."""
AsRead: TypeAlias = Callable[[Tensor], Tensor]
"""Leaves padding out of a gradient, and divides it by what the loss was multiplied with."""

ONE: Final = 1
CHANGED: Final = "what takes it changed from one step to another; missing in that step"
BRANCHES_INSIDE: Final = "one of several parallel branches to the next tensor branches again"
UNREAD: Final = "a gradient on the way is missing, or of a kind that is not read"


class JointReading:
    """What one backward pass brings to a tensor on the way between two of the chain.

    Where one node takes the tensor on the way, its gradient is compared by place and version in memory: the engine
    hands on the very tensor unless it adds to it. So nothing is computed where nothing branches, once that is known.

    Parameters
    ----------
    key : tuple
        Of the place, in `known`.
    known : dict
        Of all places.
    uses : int
        How many nodes take the tensor on the way.
    alone : bool
        Whether all of the way goes through it.
    as_read : callable

    Attributes
    ----------
    part, whole : AbsMean
        Of the gradient, by the chain and all of it; empty where they were not computed.
    came, unread : bool
        Whether all of it came; whether it is of a kind that is not read.
    same : bool
        Whether the part by the chain is the whole.
    """

    __slots__ = (
        "_as_read", "_at", "_kept", "_left", "_sum", "alone", "came", "key", "known", "part", "same", "unread", "uses",
        "whole",
    )  # fmt: skip

    def __init__(self, key: tuple[Any, ...], known: Known, uses: int, *, alone: bool, as_read: AsRead) -> None:
        self.key, self.known, self.uses, self.alone, self._as_read = key, known, uses, alone, as_read
        self._left = uses
        self._sum: Tensor | None = None
        self._at: tuple[int, int] | None = None
        self._kept: Tensor | None = None
        self.part, self.whole = AbsMean(), AbsMean()
        self.came = self.unread = self.same = False

    @property
    def checked(self) -> bool:
        """Whether it can be told from the place in memory that nothing branches."""
        return self.uses == ONE

    @property
    def measured(self) -> bool:
        """Whether the means are computed: it branches, or nobody knows yet."""
        return self.alone and self.known.get(self.key, True)

    def take_part(self, gradient: Tensor | None) -> None:
        """Take in what a node of the chain gives to the tensor."""
        if gradient is None or type(gradient) not in PLAIN:
            self.unread = True
            return
        self._left -= 1
        if self.checked:
            self._at, self._kept = _place(gradient), _kept(gradient)
            if self.measured:
                self._add(self.part, gradient)
        elif self.alone:
            # in the order in which the engine adds them up, so that the last digits are the same
            self._sum = gradient.detach() if self._sum is None else self._sum + gradient.detach()
            if not self._left:
                self._add(self.part, self._sum)
                self._sum = None

    def take_whole(self, gradient: Tensor | None) -> None:
        """Take in the whole gradient of the tensor."""
        if gradient is None or type(gradient) not in PLAIN:
            self.unread = True
            return
        self.came = not self._left
        self.same = self._at == _place(gradient) if self.checked else not self.alone
        self._kept = None
        if self.measured:
            self._add(self.whole, gradient)

    def _add(self, mean: AbsMean, gradient: Tensor) -> None:
        mean.merge(mean_of(self._as_read(gradient)))


def judge(joints: list[JointReading]) -> tuple[str | None, list[JointReading]]:
    """Tell, when the whole gradient of the lowest of these tensors has come, where it branched on the way.

    Parameters
    ----------
    joints : list of JointReading
        From the upper tensor, without it, down to the lower one.

    Returns
    -------
    why : str or None
        Why that cannot be told.
    branching : list of JointReading
        Those that branch, with the lowest one; none where nothing does.
    """
    alone, lowest = [joint for joint in joints if joint.alone], joints[-1]
    here = [joint for joint in alone if not joint.same]
    expected = [joint for joint in alone if joint.known.get(joint.key, False)]
    why = None
    if any(joint.unread or not joint.came for joint in joints):
        why = UNREAD
    elif any(joint.checked and not joint.same and not joint.alone for joint in joints):
        why = BRANCHES_INSIDE
    elif here and not all(joint.measured for joint in (*here, lowest)):
        why = CHANGED
    for joint in alone:
        joint.known[joint.key] = joint in here or joint in expected or (joint is lowest and bool(here or expected))
    return why, [joint for joint in alone if joint.known[joint.key]]


class StraightReading:
    """What one backward pass brings to the tensors between two of the chain, where nothing is known to branch.

    Nothing is computed: that no gradient was added to another is seen by their places and versions in memory.

    Parameters
    ----------
    steps : int
        Nodes between the two.
    """

    __slots__ = ("at", "kept", "left", "same")

    def __init__(self, steps: int) -> None:
        self.left, self.same = steps, True
        self.at: tuple[int, int] = (0, 0)
        self.kept: Tensor | None = None

    def gives(self, gradient: Tensor | None) -> None:
        """Note what a node has given to the tensor below it."""
        self.left -= 1
        plain = gradient is not None and type(gradient) in PLAIN
        self.at, self.kept = (_place(gradient), _kept(gradient)) if plain else ((0, 0), None)

    def ends(self, gradient: Tensor) -> bool:
        """Return whether the gradient that came to the lower tensor is what the last node gave."""
        self.kept = None
        return self.same and not self.left and self.at == _place(gradient)


class StepHook:
    """Hook on a node between two tensors of the chain where nothing is known to branch."""

    __slots__ = ("number", "on_failure", "overhead", "position", "reading", "trains")

    def __init__(
        self,
        reading: StraightReading,
        number: int,
        position: int,
        trains: Callable[[], bool],
        overhead: Overhead,
        *,
        on_failure: Callable[[Exception], object],
    ) -> None:
        self.reading, self.number, self.position = reading, number, position
        self.trains, self.overhead, self.on_failure = trains, overhead, on_failure

    def __call__(self, given: tuple[Tensor | None, ...], taken: tuple[Tensor | None, ...]) -> None:
        """Compare what came with what the node above gave, and note what this one gives."""
        begun = clock()
        try:
            if self.trains():
                reading = self.reading
                if self.number >= 0:
                    above = taken[self.number]
                    reading.same &= type(above) in PLAIN and reading.at == _place(above)
                reading.gives(given[self.position])
        except Exception as error:  # noqa: BLE001 - recording must not end the training
            self.on_failure(error)
        self.overhead.spent += clock() - begun


def _place(gradient: Any) -> tuple[int, int]:
    return gradient.data_ptr(), gradient._version


def _kept(gradient: Any) -> Tensor | None:
    """Return a gradient that has to be held until it is compared, so that no other one gets its place in memory.

    The engine adds in place, so that a sum has another place or version than what went into it. Under `create_graph`,
    or a user's dispatch mode, it makes a new tensor of each sum of two, and the second of those may lie where the first
    gradient was, whose memory is free by then.
    """
    kept: Tensor | None = gradient if torch.is_grad_enabled() or dispatch_modes() else None
    return kept


def mean_of(gradient: Tensor) -> AbsMean:
    """Return the mean of a gradient's absolute values."""
    mean = AbsMean()
    if dispatch_modes():  # the user's: what counts operations counts those of the model
        with _disable_current_modes():
            mean.update(gradient)
    else:
        mean.update(gradient)
    return mean


class NodeHook:
    """Hook on a node between two tensors of the chain: called with the gradients that it gives and took."""

    __slots__ = ("on_failure", "overhead", "parts", "trains", "wholes")

    def __init__(
        self, trains: Callable[[], bool], overhead: Overhead, *, on_failure: Callable[[Exception], object]
    ) -> None:
        self.trains, self.overhead, self.on_failure = trains, overhead, on_failure
        self.parts: list[tuple[JointReading, int]] = []
        self.wholes: list[tuple[JointReading, int]] = []

    def __call__(self, given: tuple[Tensor | None, ...], taken: tuple[Tensor | None, ...]) -> None:
        """Hand the gradients over."""
        begun = clock()
        try:
            if self.trains():
                for joint, number in self.wholes:
                    joint.take_whole(taken[number])
                for joint, position in self.parts:
                    joint.take_part(given[position])
        except Exception as error:  # noqa: BLE001 - as above
            self.on_failure(error)
        self.overhead.spent += clock() - begun
