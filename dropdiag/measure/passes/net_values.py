"""The net values of a pass, what activations make of them, and their gradients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.functional.calls import NamedCall
from dropdiag.measure.passes.called_activations import CalledActivations, Taker
from dropdiag.model.sites import Site

CallKey: TypeAlias = tuple[str, int]
"""Layer and call index."""
NetHook: TypeAlias = Callable[[CallKey, Tensor], None]
NodeHook: TypeAlias = Callable[[CallKey, Tensor], Tensor | None]


def in_backward() -> bool:
    """Whether this thread is in a backward pass, where a checkpoint runs parts of the forward pass again."""
    return torch._C._current_graph_task_id() != -1  # private; torch's own checkpoint asks it


class Calls:
    """Counts the calls of each site in one pass; what a checkpoint runs again is the call that it was."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    def next(self, layer: str) -> tuple[int, bool]:
        """Return a call's index, and whether it is run again.

        Raises
        ------
        ArgumentError
            Where a site that was called several times is run again: which of them it is cannot be told.
        """
        if not in_backward():
            self._calls[layer] += 1
            return self._calls[layer] - 1, False
        if self._calls[layer] > 1:
            raise ArgumentError(
                f"{layer} is called several times in a pass, and torch.utils.checkpoint runs it again: switch "
                "checkpointing off for the measurement"
            )
        return 0, True


class Watched:
    """The activations that are watched, and what takes their tensors.

    Parameters
    ----------
    sites : iterable of Site
    on_net : callable, optional
        Called with layer and call index, and the net value, with its graph where there is one.
    on_node : callable, optional
        Likewise with the activation's output. What it returns takes the output's place, unless that is None.
    on_gradient : callable, optional
        Likewise with the gradient of the net value, in the backward pass.
    called : CalledActivations, optional
        Hands over the calls of functions, where some of the sites are such.
    """

    def __init__(
        self,
        sites: Iterable[Site],
        on_net: NetHook | None = None,
        on_node: NodeHook | None = None,
        on_gradient: NetHook | None = None,
        called: CalledActivations | None = None,
    ) -> None:
        self._sites = [site for site in sites if not site.functional]
        self._functions = {site.layer: site for site in sites if site.functional}
        self._called = called
        self._on_net, self._on_node, self._on_gradient = on_net, on_node, on_gradient

    def watch(self, hooks: ExitStack) -> None:
        """Put hooks on the activations for one pass, and take the calls of functions."""
        nets, nodes, hooked = Calls(), Calls(), set[CallKey]()
        if self._functions and self._called is not None:
            after = None if self._on_node is None else partial(self._after_call, nodes)
            self._called.take(hooks, Taker(partial(self._before_call, nets, hooked), after), first=True)
        for site in self._sites:
            if self._on_net is not None or self._on_gradient is not None:
                before = partial(self._before, site, nets, hooked)
                hooks.enter_context(site.module.register_forward_pre_hook(before, with_kwargs=True))
            if self._on_node is not None:
                after = partial(self._after, site, nodes)
                # first of all, so that it sees what comes before the mask of an inserted dropout
                hooks.enter_context(site.module.register_forward_hook(after, prepend=True))

    def _before(
        self, site: Site, calls: Calls, hooked: set[CallKey], _module: nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> None:
        z = tensor_argument(args, kwargs)
        if z is not None:
            self._take(site, z, calls, hooked)

    def _before_call(self, calls: Calls, hooked: set[CallKey], call: NamedCall) -> None:
        if (site := self._functions.get(call.layer)) is not None:
            self._take(site, call.z, calls, hooked)

    def _take(self, site: Site, z: Tensor, calls: Calls, hooked: set[CallKey]) -> None:
        if self._on_net is None and self._on_gradient is None:
            return
        call, again = calls.next(site.layer)
        key = site.layer, call
        if self._on_net is not None and not again:
            self._on_net(key, site.net(z))
        # A reentrant checkpoint has no graph the first time.
        if self._on_gradient is not None and z.requires_grad and key not in hooked:
            hooked.add(key)
            z.register_hook(partial(self._gradient, site, key, self._on_gradient))  # type: ignore[no-untyped-call]

    @staticmethod
    def _gradient(site: Site, key: CallKey, take: NetHook, gradient: Tensor) -> None:
        take(key, site.net(gradient.detach()))

    def _after_call(self, calls: Calls, call: NamedCall, h: Tensor) -> Tensor | None:
        site = self._functions.get(call.layer)
        return None if site is None else self._after(site, calls, site.module, None, h)

    def _after(self, site: Site, calls: Calls, _module: nn.Module, _args: Any, output: Any) -> Tensor | None:
        if self._on_node is None or not isinstance(output, Tensor):
            return None
        call, _ = calls.next(site.layer)
        return self._on_node((site.layer, call), output)


def tensor_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return a module's tensor argument: the first, by position or by name."""
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
