"""Activations and dropouts called as functions: intercepted by a TorchFunctionMode during the forward pass."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dropdiag.model.activations import Activation, describe_function, is_activation
from dropdiag.model.hook_base import DropdiagHook
from dropdiag.model.sites import ACTIVATION, Site, axis_rule_inside
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.functions import FUNCTIONS, Function, argument, bound
from dropdiag.recording.mask_functions import MaskFunctions
from dropdiag.recording.masks import Begun, MaskReader
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import Call, PassRouter


class FunctionalCalls(TorchFunctionMode):
    """Intercepts functional activations during the model's forward pass, and attributes them to modules.

    A call belongs to the nearest module of the model on the Python call stack; its site is called
    ``MODULE:FUNCTION``, with the settings if there are any: ``block:leaky_relu(0.2)``. Calls that an activation
    module makes itself are that module's own. An intercepted function is called with the arguments it was given, and
    its result is returned unchanged.

    Parameters
    ----------
    model : nn.Module
    router : PassRouter
    masks : MaskReader
    skipped : callable
        Layer name -> why it is not recorded, or None.
    on_failure : callable
        Called with the layer and the exception where recording a call fails; no call is recorded after that.
    """

    def __init__(
        self,
        model: nn.Module,
        router: PassRouter,
        masks: MaskReader,
        skipped: Callable[[str], str | None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        super().__init__()
        self.model = model
        self._router, self._skipped, self._on_failure = router, skipped, on_failure
        self.masks = MaskFunctions(model, router, masks, self._dropout_layer, skipped)
        self._names = {id(module): name or "(model)" for name, module in model.named_modules()}
        self._known: dict[str, Activation | None] = {}
        self.sites: dict[str, SiteInfo] = {}
        self.new: list[SiteInfo] = []
        self._entered = False
        self._failed = False
        self._thread = 0
        self._depth = 0
        self._armed: dict[int, tuple[_Recomputation, _Recomputation]] = {}

    @property
    def needed(self) -> bool:
        """Whether a training step has to be intercepted for the sites that are known."""
        return bool(self.sites) or self.masks.needed

    def begin(self) -> None:
        """Start intercepting: the model's forward pass begins."""
        if not self._entered:
            self._entered, self._thread = True, threading.get_ident()
            self.__enter__()  # type: ignore[no-untyped-call]
            self._router.intercepting = True

    def nest(self, change: int) -> None:
        """Enter (1) or leave (-1) a module that runs again inside a backward pass."""
        self._depth += change
        if self._depth == max(change, 0):
            self.begin() if change > 0 else self.end()

    def end(self) -> None:
        """Stop intercepting. May be called again."""
        # Modes belong to their thread: another one would take a mode off its own stack that is not there.
        if self._entered and self._thread == threading.get_ident():
            self._entered = self._router.intercepting = False
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func``; where it is an activation, hand over its input and output."""
        function = FUNCTIONS.get(func)
        if function is None:  # nearly all calls: every operator of the forward pass comes by
            return func(*args, **kwargs) if kwargs else func(*args)
        keywords = dict(kwargs or {})
        if torch.compiler.is_compiling():  # a compiled part of the model is being traced
            return func(*args, **keywords)
        begun = clock()
        call = self._before(function, sys._getframe(1), args, keywords)
        self._router.overhead.spent += clock() - begun
        result = func(*args, **keywords)
        if function.of_masks:
            begun = clock()
            self.masks.after(function, call, result)
            self._router.overhead.spent += clock() - begun
        elif isinstance(call, Call) and isinstance(result, Tensor):
            begun = clock()
            self._router.node_value(call, result)
            self._router.overhead.spent += clock() - begun
        return result

    def _before(
        self, function: Function, frame: FrameType, args: Sequence[Any], keywords: dict[str, Any]
    ) -> Call | Begun | None:
        """Note what is called; return the call if it is an activation or a dropout that is recorded."""
        module = self._nearest(frame)
        if module is None or self._failed:
            return None
        try:
            if function.of_masks:
                return self._mask(function, frame, module, args, keywords)
            no_site = is_activation(module) or self.masks.own_activations(module)
            return None if no_site else self._net_value(function, module, args, keywords)
        except Exception as error:  # noqa: BLE001 - recording must not end the training
            self._failed = True
            self._on_failure(self._layer(function, module), error)
            return None

    def _mask(
        self, function: Function, frame: FrameType, module: nn.Module, args: Sequence[Any], keywords: dict[str, Any]
    ) -> Begun | None:
        """Take in a call that draws a mask, or may be part of one."""
        if module.training and not torch.is_grad_enabled() and id(module) not in self.masks.kinds:
            self._arm(module)
        called = self.masks.before(function, frame, module, args, keywords)
        new, self.masks.new = self.masks.new, []
        self.new += new
        return called

    def _dropout_layer(self, module: nn.Module, function: str, x: object) -> str:  # noqa: ARG002 - for who follows it
        """Return the name of a dropout's site: of the function that a module calls on a tensor."""
        return f"{self._names[id(module)]}:{function}"

    def _nearest(self, frame: FrameType | None) -> nn.Module | None:
        # The module whose method called the function: the nearest frame whose first argument, `self`, is a module of
        # this model. torch keeps no record of which module is running.
        while frame is not None:
            code = frame.f_code
            if code.co_argcount:
                owner = frame.f_locals.get(code.co_varnames[0])
                if id(owner) in self._names and isinstance(owner, nn.Module):
                    return owner
            frame = frame.f_back
        return None

    def _net_value(
        self, function: Function, module: nn.Module, args: Sequence[Any], keywords: dict[str, Any]
    ) -> Call | None:
        z = args[0] if args else keywords.get("input")
        if not isinstance(z, Tensor) or not z.is_floating_point():
            return None
        info = self._router.located(self._info(function, module, args[1:], keywords))
        if info.site.skipped is not None:
            return None
        if module.training and not torch.is_grad_enabled():
            self._arm(module)
        net, gradients = info.site.net(z), torch.is_grad_enabled()
        call = self._router.net_value(info, net, training=module.training, gradients=gradients)
        if call is not None:
            # inplace is the one flag among the positional arguments of these functions.
            inplace = function.inplace or bool(keywords.get("inplace")) or any(a is True for a in args[1:])
            self._router.watch(call, z, inplace=inplace)
        return call

    def _arm(self, module: nn.Module) -> None:
        """Intercept where this module is run again inside a backward pass as well (a reentrant checkpoint)."""
        # That pass does not go through the model's own forward, whose hooks begin and end interception otherwise.
        if id(module) not in self._armed:
            before, after = _Recomputation(self, begins=True), _Recomputation(self, begins=False)
            before.attach(module.register_forward_pre_hook, with_kwargs=True)
            after.attach(module.register_forward_hook, with_kwargs=True, always_call=True)
            self._armed[id(module)] = before, after

    def release(self) -> None:
        """Stop intercepting and take hooks off modules. May be called again."""
        self.end()
        while self._armed:
            for hook in self._armed.popitem()[1]:
                hook.remove()

    def _info(self, function: Function, module: nn.Module, rest: Sequence[Any], keywords: dict[str, Any]) -> SiteInfo:
        """Return the site of a call, which is made at the first one."""
        name, phi = bound(function, rest, keywords)
        layer = f"{self._names[id(module)]}:{'glu' if function.name == 'glu' else name}"
        if layer not in self.sites:
            if name not in self._known:
                self._known[name] = None if phi is None else describe_function(name, phi)
            site = Site(
                layer=layer,
                kind=ACTIVATION,
                module=module,
                activation=name,
                functional=True,
                axis_rule=axis_rule_inside(module),
                gate_dim=int(argument(rest, keywords, 0, "dim", -1)) if function.name == "glu" else None,
                skipped=self._skipped(layer),
            )
            self.sites[layer] = SiteInfo(site, self._known[name])
            self.new.append(self.sites[layer])
        return self.sites[layer]

    def _layer(self, function: Function, module: nn.Module) -> str:
        return f"{self._names[id(module)]}:{function.name}"


class _Recomputation(DropdiagHook):
    """Hooks of a module whose functions ran without gradients: starts and stops interception when it runs again."""

    def __init__(self, calls: FunctionalCalls, *, begins: bool) -> None:
        self.calls, self.begins = calls, begins
        self.n_args = 3 if begins else 4

    def fire(self, *_: Any) -> None:
        # -1: outside of any backward pass, where the model's own forward pass intercepts already. Private, see passes.
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
            return
        self.calls.nest(1 if self.begins else -1)
