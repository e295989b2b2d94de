"""Activations and dropouts called as functions: intercepted by a TorchFunctionMode during the forward pass."""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from dropdiag.functional.calls import in_compiled_graph
from dropdiag.functional.functions import DOUBTFUL, FUNCTIONS, MIXING_FUNCTIONS, Function, argument, bound
from dropdiag.functional.layers import Layer, Layers
from dropdiag.functional.producers import Producers, Rule
from dropdiag.functional.rules import LAYER_FUNCTIONS, RULES, elementwise
from dropdiag.model.activations import MIXES, MIXING, Activation, describe_function, is_activation
from dropdiag.model.hook_base import DropdiagHook
from dropdiag.model.order import Place
from dropdiag.model.sites import ACTIVATION, Site, axis_rule_inside
from dropdiag.probes.base import SiteInfo
from dropdiag.recording.backward import backward_number
from dropdiag.recording.batch import SEEN_BY
from dropdiag.recording.calls import Call
from dropdiag.recording.masks.functions import WEIGHT_DROPOUT, MaskFunctions
from dropdiag.recording.masks.reader import Begun, MaskReader
from dropdiag.recording.overhead import clock
from dropdiag.recording.passes import PassRouter
from dropdiag.recording.readable import has_no_values
from dropdiag.recording.recomputed import checkpoint_number


class FunctionalCalls(TorchFunctionMode):
    """Intercepts functional activations during the model's forward pass, and attributes them to layers.

    A call belongs to the layer whose output reached it, which is followed through the functions between; where that is
    no single one, to the nearest module of the model on the Python call stack. Its site is called ``LAYER:FUNCTION``,
    with the settings if there are any: ``conv1:leaky_relu(0.2)``. Calls that an activation module makes itself are
    that module's own. An intercepted function is called with the arguments it was given, and its result is returned
    unchanged.

    Parameters
    ----------
    model : nn.Module
    sites : sequence of Site
        What the survey found.
    router : PassRouter
    masks : MaskReader
    skipped : callable
        Names of a layer, the present one and the former one -> why it is not recorded, or None.
    on_failure : callable
        Called with the layer and the exception where recording a call fails; no call is recorded after that.

    Attributes
    ----------
    formerly : dict
        Of each site, call index -> the layer and call index under which version 1 recorded the same call.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        router: PassRouter,
        *,
        masks: MaskReader,
        skipped: Callable[..., str | None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        super().__init__()
        self.model = model
        self._router, self._skipped, self._on_failure = router, skipped, on_failure
        self._layers = Layers(model, sites)
        self._producers = router.producers = Producers(self._layers)
        self._places = masks.places
        self.masks = MaskFunctions(
            *(model, router, masks),
            named=self._dropout_layer,
            skipped=skipped,
            has_new_modules=self._has_new_modules,
        )
        self.others: set[str] | None = None  # names of other functions that are called, where they are wanted
        self._known: dict[str, Activation | None] = {}
        self._names: dict[tuple[Layer | None, nn.Module, str], str] = {}
        self.sites: dict[str, SiteInfo] = {}
        self.new: list[SiteInfo] = []
        self.formerly: defaultdict[str, dict[int, Place]] = defaultdict(dict)
        self._former_calls: Counter[str] = Counter()
        self._held: defaultdict[tuple[str, int], deque[tuple[SiteInfo, Place]]] = defaultdict(deque)
        self._entered = False
        self._failed = False
        self._surveyed = self._held_in = router.period
        self._is_activation: dict[nn.Module, bool] = {}  # both take long to find out
        self._rules: dict[nn.Module, str | None] = {}
        self._thread = 0
        self._depth = 0
        self._armed: dict[int, tuple[_Recomputation, _Recomputation]] = {}

    @property
    def needed(self) -> bool:
        """Whether a training step has to be intercepted for the sites that are known."""
        return bool(self.sites) or self.masks.needed

    def name_modules(self, sites: Sequence[Site]) -> None:
        """Name the modules of the model, and the layers of its weights, as they are now."""
        self._names.clear()
        self._layers.take(sites)
        self.masks.look_at(self.model)

    @property
    def failed(self) -> bool:
        """Whether recording a call has failed, so that none is recorded any more."""
        return self._failed

    @property
    def entered(self) -> bool:
        """Whether functions are being intercepted, in any thread."""
        return self._entered

    def begin(self) -> None:
        """Start intercepting: the model's forward pass begins."""
        if not self._entered:
            self._entered, self._thread = True, threading.get_ident()
            self.__enter__()  # type: ignore[no-untyped-call]
            self._router.intercepting = True
            # A pass that is run again inside a backward pass begins in its middle: nothing of it can be followed.
            self._router.following = self._depth == 0 and not self._failed
            if self._router.following:
                self._pass_begins()

    def _pass_begins(self) -> None:
        self._former_calls.clear()
        self._layers.pass_begins()
        if self._held_in != self._router.period:  # one backward pass may come of several forward passes of a step
            self._held_in = self._router.period
            self._held.clear()
        if self._router.intercept and self._surveyed != self._router.period:  # modules may have come since
            self._surveyed = self._router.period
            self._layers.survey()
            self._is_activation.clear()

    def nest(self, change: int) -> None:
        """Enter (1) or leave (-1) a module that runs again inside a backward pass."""
        self._depth += change
        if self._depth == max(change, 0):
            self.begin() if change > 0 else self.end()

    def end(self) -> None:
        """Stop intercepting. May be called again."""
        # Modes belong to their thread: another one would take a mode off its own stack that is not there. A thread that
        # has ended took its stack along, and its number may be that of another one now.
        own = self._thread == threading.get_ident()
        if self._entered and (own or not any(t.ident == self._thread for t in threading.enumerate())):
            self._entered = self._router.intercepting = self._router.following = False
            self._producers.clear()
            self._places.clear()
            # Private, as torch has no public list of modes.
            if own and self in _get_current_function_mode_stack():  # type: ignore[no-untyped-call]
                self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func``; where it is an activation, hand over its input and output; follow its result."""
        keywords = kwargs or {}
        # A compiled part of the model is being traced, or its graph runs, which calls operators by their overloads.
        if torch.compiler.is_compiling() or (type(func) is OpOverload and in_compiled_graph(sys._getframe(1))):
            return func(*args, **keywords)
        function, rule = FUNCTIONS.get(func), RULES.get(func)
        if function is None:  # nearly all calls: every operator of the forward pass comes by
            result = func(*args, **keywords)
            if self.others is not None:
                self.others.add(getattr(func, "__name__", ""))
            if rule is not None and self._router.following:
                begun = clock()
                self._follow(func, rule, args, keywords, result)
                self._router.overhead.spent += clock() - begun
            return result
        begun = clock()
        call = self._before(function, sys._getframe(1), args, keywords)
        self._router.overhead.spent += clock() - begun
        result = func(*args, **keywords)
        begun = clock()
        try:
            if function.of_masks:
                self.masks.after(function, call, result)
            elif isinstance(call, Call) and isinstance(result, Tensor):
                self._router.node_value(call, result)
        except Exception as error:  # noqa: BLE001 - recording must not end the training
            self._router.hook_failed(error)
        if self._router.following:
            self._follow(func, rule or elementwise, args, keywords, result)
        self._router.overhead.spent += clock() - begun
        return result

    def _follow(self, func: Any, rule: Rule, args: Sequence[Any], keywords: Mapping[str, Any], result: object) -> None:
        """Note where the result of a function comes from, and which weights it uses."""
        try:
            self._producers.follow(rule, args, keywords, result)
            if func in SEEN_BY and (batch := self._router.batches.now) is not None:
                SEEN_BY[func](batch, args, keywords)
            if self._router.trace.on:
                self._note_weights(func, (*args, *keywords.values()), result)
        except Exception as error:  # noqa: BLE001 - recording must not end the training
            self._failed, self._router.following = True, False
            self._on_failure(getattr(func, "__name__", repr(func)), error)

    def _note_weights(self, func: Any, values: Sequence[Any], result: object) -> None:
        made = self._producers.trail(result[0] if isinstance(result, (tuple, list)) and result else result)
        if made is not None and made.of_weight:  # it is only prepared, as by a mask
            return
        weights = [trail.layer for t, trail in self._producers.known(values) if trail.of_weight and t.ndim > 1]
        names = [name for layer in weights if layer and (name := self._layers.weight(layer)) is not None]
        if not weights and func in LAYER_FUNCTIONS:  # a weight that is made in each pass is that of the calling module
            names = self._layers.weights_of(self._layers.nearest(sys._getframe(2)))
        self._places.used(values, names)
        for name in names:
            self._router.trace.note(name, 0)

    def _before(
        self, function: Function, frame: FrameType, args: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Call | Begun | None:
        """Note what is called; return the call if it is an activation or a dropout that is recorded."""
        module = self._layers.nearest(frame)
        if module is None or self._failed:
            return None
        try:
            if function.of_masks:
                return self._mask(function, frame, module, args, keywords)
            return None if self._no_site(module) else self._net_value(function, module, args, keywords)
        except Exception as error:  # noqa: BLE001 - recording must not end the training
            self._failed = True
            self._on_failure(f"{self._layers.names[id(module)]}:{function.name}", error)
            return None

    def _mask(
        self, function: Function, frame: FrameType, module: nn.Module, args: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Begun | None:
        """Take in a call that draws a mask, or may be part of one."""
        kind = self.masks.kinds.get(id(module))
        if module.training and not torch.is_grad_enabled() and (kind is None or kind.by_functions):
            self._arm(module)
        called = self.masks.before(function, frame, module, args, keywords)
        new, self.masks.new = self.masks.new, []
        self.new += new
        return called

    def _dropout_layer(self, module: nn.Module, function: str, x: object) -> str:
        """Return the name of a dropout's site: of the function that a module calls on a tensor."""
        trail = next((trail for _, trail in self._producers.known((x,))), None)
        if trail is not None and trail.of_weight:
            return f"{trail.layer.inside}:{WEIGHT_DROPOUT}" if trail.layer else self._named(None, module, function)
        return self._named(None if trail is None else trail.layer, module, function)

    def _has_new_modules(self) -> bool:
        """Whether modules came since they were looked at: the sites of their functions would get other names."""
        if self._layers.complete():
            return False
        self._router.look_closer()
        return True

    def _no_site(self, module: nn.Module) -> bool:
        """Whether the functions that a module calls are part of an activation or a mask of its own."""
        if module not in self._is_activation:
            known = is_activation(module) or isinstance(module, MIXING) or self.masks.own_activations(module)
            self._is_activation[module] = known
        return self._is_activation[module]

    def _net_value(
        self, function: Function, module: nn.Module, args: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Call | None:
        z = args[0] if args else keywords.get("input")
        # Of another class the router may refuse it, before anything is asked of it.
        if not isinstance(z, Tensor) or has_no_values(z):
            return None
        found = self._site_of(function, module, z, args[1:], keywords)
        if found is None or found[0].site.skipped is not None:
            return None
        info, former = found
        if module.training and not torch.is_grad_enabled():
            self._arm(module)
        net, gradients = info.site.net(z), torch.is_grad_enabled()
        call = self._router.net_value(info, net, training=module.training, gradients=gradients)
        if call is not None:
            self.formerly[info.site.layer].setdefault(call.number, former)
            # inplace is the one flag among the positional arguments of these functions.
            inplace = function.inplace or bool(keywords.get("inplace")) or any(a is True for a in args[1:])
            self._router.gradients.watch(call, z, inplace=inplace)
        return call

    def _site_of(
        self, function: Function, module: nn.Module, z: Tensor, rest: Sequence[Any], keywords: Mapping[str, Any]
    ) -> tuple[SiteInfo, Place] | None:
        """Return the site of a call, and what the call was in version 1; None where it is no activation."""
        described = bound(function, rest, keywords)
        if described is None:
            return None
        name, phi = described
        called = "glu" if function.name == "glu" else name
        former = f"{self._layers.former.get(id(module), self._layers.names[id(module)])}:{called}"
        if backward_number() != -1:  # what enters is a copy, whose layer is not known: the first pass knew it
            held = self._held[former, checkpoint_number()]
            return held.popleft() if held else None
        trail = self._producers.trail(z)
        layer = self._named(None if trail is None or trail.of_weight else trail.layer, module, called)
        if layer not in self.sites:
            # What nothing learned leads to is arithmetic: the angles of positions have a sine, too.
            if function.name in DOUBTFUL and trail is None and not z.requires_grad:
                return None
            if self._has_new_modules():
                return None
            if name not in self._known:
                self._known[name] = None if phi is None else describe_function(name, phi)
            gate = int(argument(rest, keywords, 0, "dim", -1)) if function.name == "glu" else None
            self._add(layer, former, module, self._known[name], activation=name, gate_dim=gate)
        place = former, self._former_calls[former]
        self._former_calls[former] += 1
        info = self._router.axes.located(self.sites[layer], trail)
        if not torch.is_grad_enabled() and (checkpoint := checkpoint_number()):
            self._held[former, checkpoint].append((info, place))
        return info, place

    def _named(self, layer: Layer | None, module: nn.Module, function: str) -> str:
        key = layer, module, function
        if key not in self._names:
            self._names[key] = self._layers.site_name(layer, module, function)
        return self._names[key]

    def _add(self, layer: str, former: str, module: nn.Module, known: Activation | None, **settings: Any) -> None:
        """Add the site of a call that is made for the first time."""
        if module not in self._rules:
            self._rules[module] = axis_rule_inside(module)
        site = Site(
            layer=layer,
            kind=ACTIVATION,
            module=module,
            functional=True,
            axis_rule=self._rules[module],
            skipped=MIXES if settings["activation"] in MIXING_FUNCTIONS else self._skipped(layer, former),
            **settings,
        )
        self.sites[layer] = SiteInfo(self._router.axes.given(site, former), known)
        self.new.append(self.sites[layer])

    def _arm(self, module: nn.Module) -> None:
        """Intercept where this module is run again inside a backward pass as well (a reentrant checkpoint)."""
        # That pass does not go through the model's own forward, whose hooks begin and end interception otherwise.
        # Only there: torch's fused encoder layers see any hook, and then compute in another way.
        if id(module) not in self._armed and checkpoint_number():
            before, after = _Recomputation(self, begins=True), _Recomputation(self, begins=False)
            before.on_failure = after.on_failure = self._router.hook_failed
            before.attach(module.register_forward_pre_hook, with_kwargs=True)
            after.attach(module.register_forward_hook, with_kwargs=True, always_call=True)
            self._armed[id(module)] = before, after

    def release(self) -> None:
        """Stop intercepting and take hooks off modules. May be called again."""
        self.end()
        while self._armed:
            for hook in self._armed.popitem()[1]:
                hook.remove()


class _Recomputation(DropdiagHook):
    """Hooks of a module whose functions ran without gradients: starts and stops interception when it runs again."""

    def __init__(self, calls: FunctionalCalls, *, begins: bool) -> None:
        self.calls, self.begins = calls, begins
        self.n_args = 3 if begins else 4

    def fire(self, *_: Any) -> None:
        # -1: outside of any backward pass, where the model's own forward pass intercepts already. Private, see passes.
        if backward_number() != -1:
            self.calls.nest(1 if self.begins else -1)
