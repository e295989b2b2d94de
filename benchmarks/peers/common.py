"""What several peers need."""

from __future__ import annotations

from torch import nn


def activations(model):
    """Return the activation modules of a network."""
    return [module for module in model.modules() if isinstance(module, (nn.Tanh, nn.ReLU, nn.GELU))]


def dropouts(model):
    """Return the dropout modules of a network."""
    return [module for module in model.modules() if isinstance(module, nn.Dropout)]


def weights(model):
    """Return the weight matrices of a network by name."""
    return {name: p for name, p in model.named_parameters() if p.ndim >= 2}


class Tensors:
    """Keeps what passes activations, and its gradient, at the steps that are recorded."""

    def __init__(self, model):
        self.on = True
        self.kept = {}
        for number, module in enumerate(activations(model)):
            module.register_forward_pre_hook(self._hook(number))

    def _hook(self, number):
        def before(module, args):
            if self.on and module.training and args[0].requires_grad:
                self.kept[f"net_value/{number}"] = args[0].detach()
                args[0].register_hook(lambda gradient: self.kept.__setitem__(f"net_grad/{number}", gradient.detach()))

        return before
