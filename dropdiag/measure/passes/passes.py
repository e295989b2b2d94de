"""Forward and backward passes of a model that leave no trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm

from dropdiag.errors import ArgumentError
from dropdiag.functional.written import seems_to_call
from dropdiag.interventions.sites import DropoutSite, list_dropouts
from dropdiag.measure.passes.arguments import check_seed
from dropdiag.measure.passes.called_activations import MEASURED, CalledActivations, Taker, site_of
from dropdiag.measure.passes.dropouts.switches import Masks, Switches
from dropdiag.measure.passes.leaves import check_loss
from dropdiag.measure.passes.loss import Loss, LossFunction
from dropdiag.measure.passes.measurable import check_devices, check_lengths, check_measurable, inner
from dropdiag.measure.passes.net_values import CallKey, NetHook, NodeHook, Watched
from dropdiag.measure.passes.state.random_states import RandomStates, derived
from dropdiag.measure.passes.state.working_copy import WorkingCopy
from dropdiag.measure.passes.surroundings import own_contexts
from dropdiag.measure.passes.vectors import by_backward
from dropdiag.measure.passes.watches import Watch
from dropdiag.measure.result import Cost
from dropdiag.model.inserted import follow_modes
from dropdiag.model.sites import ACTIVATION, Site, survey

Switched: TypeAlias = bool | Mapping[str, bool | float] | None
"""All dropouts on or off, some of them by name (at a rate), or each as the modules' modes have it."""
NO_ACTIVATIONS: Final = (
    "the model has no activation modules, and its forward pass calls no activation function that is known: dropdiag."
    "register_activation makes those of your own known"
)
Part: TypeAlias = Callable[[Any], Any]
"""Takes some samples out of what a model is called with."""


class Passes:
    """Passes of one batch through a model that works on copies of all that it holds.

    Parameters
    ----------
    model : nn.Module
        Its parameters, buffers, gradients and hooks are not touched; a Recorder on it sees nothing.
    batch : Tensor, sequence or mapping
        What the model is called with: one argument, several, or named ones. Every pass gets copies of its tensors.
        Where the loss takes targets and none are given, the pair (inputs, targets).
    loss_fn : callable, optional
        See `Loss.of`.
    targets : object, optional
    needs_loss : bool, default False
        Whether to refuse what gives no loss.

    Attributes
    ----------
    root : nn.Module
        The module that is run, without wrappers.
    inputs, targets : object
        Of a pass.
    activations : list of Site
        The activation modules, and once `find_calls` has looked for them the calls of activation functions; there may
        be none.
    called : CalledActivations
        Hands over the calls of activation functions.
    dropouts : list of DropoutSite
        As `dropdiag.interventions.list` names them.
    parameters : dict of str -> Tensor
        The trainable parameters, inside of `ready`: copies, leaves of the graph, which may be changed in place.

    Raises
    ------
    ArgumentError
        For a model that cannot be measured (no module, lazy, scripted), a batch or targets on another device than the
        model, targets that do not fit the batch, and a loss that is none.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: object,
        loss_fn: LossFunction | None = None,
        targets: object = None,
        *,
        needs_loss: bool = False,
    ) -> None:
        self.model = check_measurable(model)
        self.root = inner(self.model)
        self._loss = Loss.of(loss_fn, batch, targets, needed=needs_loss)
        self.inputs, self.targets = self._loss.inputs, self._loss.targets
        check_devices(self.model, batch=self.inputs, targets=self.targets)
        check_lengths(self.inputs, self.targets)
        self.activations = [s for s in survey(self.model) if s.kind == ACTIVATION and s.skipped is None]
        self.called = CalledActivations(self.root)
        self.parameters: dict[str, Tensor] = {}
        self._forward_passes = self._backward_passes = 0
        self._watches: list[Watch] = []
        self._switches: Switches | None = None

    @cached_property
    def dropouts(self) -> Sequence[DropoutSite]:
        """The dropouts of the model, found when they are asked for first."""
        return list_dropouts(self.root)

    @property
    def count(self) -> Cost:
        """The passes that were made so far."""
        return Cost(self._forward_passes, self._backward_passes)

    @property
    def seed_given(self) -> int:
        """The seed of these passes."""
        return self._seed

    @property
    def has_loss(self) -> bool:
        """Whether a loss is known."""
        return self._loss.function is not None

    @property
    def classes(self) -> Any:
        """The targets, by which outputs are scored."""
        return self._loss.classes(self.targets)

    @contextmanager
    def ready(
        self,
        seed: int,
        *,
        gradients: bool = False,
        evaluation: bool = False,
        double_backward: bool = False,
        norms: str = "evaluation",
    ) -> Iterator[Passes]:
        """Let the model work on copies of what it holds; passes are made inside.

        Parameters
        ----------
        seed : int
            Of all random numbers that passes draw.
        gradients : bool, default False
            Whether passes have a graph. Hooks on the backward passes of modules do not run: gradients are those of the
            loss.
        evaluation : bool, default False
            Whether all modules are in evaluation mode, otherwise they are in the modes that they have.
        double_backward : bool, default False
            Whether gradients are differentiated again: attention then runs on its kernel that can be.
        norms : {"evaluation", "given"}, default "evaluation"
            The mode of batch norms, spectral norms and RReLU: always that of evaluation, or the one that they have.
            What they update are copies.

        Raises
        ------
        ArgumentError
            Where something can be neither copied nor put back, parameters are spread over processes, or gradients are
            asked for and no parameter is trainable.
        """
        check_seed(seed)
        trainable = {name: p for name, p in self.root.named_parameters() if p.requires_grad}
        if (gradients or double_backward) and not trainable:
            raise ArgumentError("the model has no parameter with requires_grad: there is no gradient to measure")
        self._seed, self.in_training = seed, self.root.training
        self.called.gradients = gradients or double_backward
        self._gradients, self._evaluation, self._norms = gradients or double_backward, evaluation, norms
        with ExitStack() as stack:
            contexts = own_contexts(self.root, gradients=self._gradients, double_backward=double_backward)
            for context in contexts:
                stack.enter_context(context)
            self.copy = WorkingCopy(self.root, (self.inputs, self.targets), self._loss.module)
            self.random = RandomStates(self.copy.found.generators)
            stack.callback(self.random.put_back)
            stack.callback(self.copy.put_back)
            self.parameters = {name: self.copy.copied(p) for name, p in trainable.items()}
            self._originals = {id(p): name for name, p in trainable.items()}
            self._modules = sum(1 for _ in self.root.modules())
            self._of_loss = self._modules_of_loss()
            self._pass: object = None
            # Up to the next pass: a checkpoint runs parts of the forward pass again in the backward pass.
            self._hooks = stack.enter_context(ExitStack())
            yield self

    def seed(self, k: int) -> None:
        """Begin the random numbers of pass k, which are those of the seed and of k alone."""
        self._pass = k
        self.random.seed(derived(self._seed, k))

    def forward(self, part: Part | None = None) -> Any:
        """Make one forward pass from the state that the model had at first; return what the model gives.

        Parameters
        ----------
        part : callable, optional
            Takes some samples out of the inputs, and out of the targets.
        """
        self._hooks.close()
        inputs, self._targets = self.renewed()
        if part is not None:
            inputs, self._targets = part(inputs), part(self._targets)
        for watch in self._watches:
            watch(self._hooks)
        if self._switches is None:
            return self.call(inputs)
        self._switches.watch(self._hooks)
        with self._switches.intercepting():
            return self.call(inputs)

    def loss_of(self, output: Any) -> Tensor:
        """Return the loss of an output: one number, with its graph where there are gradients."""
        return self._loss(output, self._targets)

    def loss(self, part: Part | None = None) -> Tensor:
        """Make one forward pass, by default of the whole batch, and return its loss."""
        return self.loss_of(self.forward(part))

    def backward(self, value: Tensor) -> list[Tensor | None]:
        """Run a backward pass through everything, hooks included; return the gradients of trainable parameters.

        None for a parameter that the number does not depend on.
        """
        self.made(backward=1)
        return by_backward(value, list(self.parameters.values()), self.other_leaves(value))

    def other_leaves(self, value: Tensor) -> list[Tensor]:
        """Return what a loss brings in that is trained beside the model: its gradient and graph are not to be touched.

        Raises
        ------
        ArgumentError
            For a loss that depends on no trainable parameter, or on one past its copy.
        """
        copies = {id(parameter) for parameter in self.parameters.values()}
        return [leaf for leaf in check_loss(value, self._originals) if id(leaf) not in copies]

    def made(self, *, forward: int = 0, backward: int = 0) -> None:
        """Count passes that were made by other means than these methods."""
        self._forward_passes += forward
        self._backward_passes += backward

    def find_calls(self, *, evaluation: bool = False) -> None:
        """Add the activation functions that forward methods call to `activations`, all in the order of a pass.

        That takes a forward pass, which is made where the model's code may call one or there is no activation module.

        Parameters
        ----------
        evaluation : bool
            See `ready`.
        """
        if self.activations and not any(seems_to_call(module, MEASURED) for module in self.root.modules()):
            return
        order: dict[str, Site] = {}
        modules = {site.layer: site for site in self.activations}
        taker = Taker(before=lambda call: order.setdefault(call.layer, site_of(call)))

        def reached(key: CallKey, _z: Tensor) -> None:
            order.setdefault(key[0], modules[key[0]])

        with (
            self.ready(0, evaluation=evaluation),
            self.watched(lambda hooks: self.called.take(hooks, taker)),
            self.on_activations(reached),
        ):
            self.forward()
        if any(site.functional for site in order.values()):
            missed = [site for site in self.activations if site.layer not in order]
            self.activations = [site for site in order.values() if site.skipped is None] + missed

    @contextmanager
    def on_activations(
        self,
        on_net: NetHook | None = None,
        on_node: NodeHook | None = None,
        on_gradient: NetHook | None = None,
        *,
        sites: Sequence[Site] | None = None,
    ) -> Iterator[None]:
        """Hand over what goes through activations, in the passes inside: see `Watched`."""
        watched = self.activations if sites is None else sites
        with self.watched(Watched(watched, on_net, on_node, on_gradient, self.called).watch):
            yield

    @contextmanager
    def watched(self, watch: Watch) -> Iterator[None]:
        """Put hooks on modules for each pass inside."""
        self._watches.append(watch)
        try:
            yield
        finally:
            self._watches.remove(watch)

    @contextmanager
    def switched(self, on: Switched, masks: Masks | None = None) -> Iterator[Switches | None]:
        """Switch dropouts, and nothing else, in the passes inside.

        Parameters
        ----------
        on : bool, mapping of str to bool or float, or None
            All of them on or off; those that a mapping names, the others being off, a number being the rate to draw at;
            None: as the modules' modes have it. One that is on draws masks whatever mode its module is in, from random
            numbers of its own: those of the seed, the pass, its name and its call.
        masks : callable, optional
            (name, call, what the dropout is applied to) -> the factor, in the place of a mask that is drawn.

        Raises
        ------
        ArgumentError
            For a name that is none of `dropouts`, and a dropout that cannot be switched.
        """
        before = self._switches
        self._switches = None if on is None else Switches(self.root, self.dropouts, on, self.begin_site, masks)
        try:
            yield self._switches
            if self._switches is not None:
                self._switches.warn_of_guarded()
        finally:
            self._switches = before

    def begin_site(self, name: str, call: int) -> int:
        """Begin the random numbers of one call of a dropout in this pass; return their seed."""
        seed = derived(self._seed, self._pass, name, call)
        self.random.seed(seed)
        return seed

    def renewed(self) -> tuple[Any, Any]:
        """Give the modules new copies of what they held at first, in their modes; return copies of inputs and targets.

        Parameters and their values in `parameters` stay the same copies.
        """
        inputs, targets = self.copy.renew()
        follow_modes(self.root)
        for module in self.copy.found.modules.values():
            quiet = self._evaluation or (self._norms == "evaluation" and _stays_in_evaluation(module))
            if quiet and id(module) not in self._of_loss:
                module.training = False  # not eval(): models override train(), say to keep parts frozen
            if self._gradients:
                _without_backward_hooks(module)
        return inputs, targets

    def _modules_of_loss(self) -> set[int]:
        """Return the identities of the modules that the loss alone is made of: they keep the modes that they have."""
        module = self._loss.module
        return set() if module is None else {*map(id, module.modules())} - {*map(id, self.root.modules())}

    def call(self, inputs: Any) -> Any:
        """Call the model, as it is prepared."""
        self.made(forward=1)
        # Hooks come and go: whatever of the model is compiled would be compiled again for each pass.
        with torch.compiler.set_stance("force_eager"), self.called.intercepting():
            if isinstance(inputs, Mapping):
                output = self.root(**inputs)
            elif isinstance(inputs, (tuple, list)):
                output = self.root(*inputs)
            else:
                output = self.root(inputs)
        if sum(1 for _ in self.root.modules()) != self._modules:
            raise ArgumentError("the model builds modules in its forward pass: run it once before it is measured")
        return output


def _stays_in_evaluation(module: nn.Module) -> bool:
    """Whether a module does more in training mode than to draw masks: change its state, or other noise."""
    kinds = (nn.modules.batchnorm._NormBase, nn.RReLU, parametrizations._SpectralNorm)  # private, with no public names
    if isinstance(module, kinds):
        return True
    # The old spectral norm takes its step of the power iteration in a forward pre-hook, which this private table shows.
    return any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values())


def _without_backward_hooks(module: nn.Module) -> None:
    """Take the hooks on a module's backward pass off its copied state."""
    module._backward_hooks.clear()  # private, as torch has no public tables of hooks
    module._backward_pre_hooks.clear()
    module._is_full_backward_hook = None
