"""No monitor, and the least that hooks can cost."""

from __future__ import annotations

from peers.common import activations


class Bare:
    """Nothing."""

    def attach(self, model, folder):
        """Leave the network as it is."""

    def step(self, loss):
        """Do nothing."""

    def close(self):
        """Do nothing."""


class EmptyHooks(Bare):
    """The hooks that recording needs, each returning at once: the floor."""

    def attach(self, model, folder):
        """Put a forward pre-hook, a forward hook and a hook on the tensor on every activation."""
        for module in activations(model):
            module.register_forward_pre_hook(_before, with_kwargs=True)
            module.register_forward_hook(_after, with_kwargs=True, always_call=True)


def _before(module, args, kwargs):
    if args[0].requires_grad:
        args[0].register_hook(_gradient)


def _after(module, args, kwargs, output):
    return None


def _gradient(gradient):
    return None
