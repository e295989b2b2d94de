"""No monitor, and the least that hooks can cost."""

from __future__ import annotations

from peers.common import activations, dropouts


class Bare:
    """Nothing."""

    def attach(self, model, folder):
        """Leave the network as it is."""

    def step(self, loss):
        """Do nothing."""

    def close(self):
        """Do nothing."""


class EmptyHooks(Bare):
    """Hooks in all places that the Recorder has some, each returning at once: the floor."""

    def attach(self, model, folder):
        """Put hooks around the network, its dropouts and activations, and on the gradients of net values."""
        for module in (model, *dropouts(model)):
            module.register_forward_pre_hook(_nothing, with_kwargs=True)
            module.register_forward_hook(_nothing, with_kwargs=True, always_call=True)
        for module in activations(model):
            module.register_forward_pre_hook(_before, with_kwargs=True)
            module.register_forward_hook(_nothing, with_kwargs=True, always_call=True)


def _before(module, args, kwargs):
    if args[0].grad_fn is not None:
        args[0].grad_fn.register_prehook(_nothing)


def _nothing(*_):
    return None
