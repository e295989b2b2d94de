"""Dropouts that stand behind a module without being part of the model: forward hooks that replace its output."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.model.hook_base import DropdiagHook


class InsertedDropout:
    """Forward hook that drops the output of the module it is on, while that module is in training mode.

    The dropout is a module of torch's, which runs its own hooks, but no child of the model: the keys of its
    ``state_dict`` and the names of its modules stay what they were. Unlike the hooks that record, it is part of what
    the model computes, so copies and pickles of the model keep it.

    Attributes
    ----------
    dropout : nn.Module
    name : str
        ``dropout``; behind a module that has one already, ``dropout#2`` and so on.
    closed : bool
        Whether it does nothing any more.
    follows : bool
        Whether the dropout is in the mode of the module before it.
    """

    follows: bool = True

    def __init__(self, dropout: nn.Module, behind: nn.Module) -> None:
        taken = {hook.name for hook in inserted_in(behind)}
        names = ("dropout", *(f"dropout#{number}" for number in range(2, len(taken) + 2)))
        self.dropout = dropout
        self.name: str = next(name for name in names if name not in taken)
        self.closed = False

    def __call__(self, module: nn.Module, _args: object, output: object) -> Tensor | None:
        """Return the output with the dropout behind it."""
        if self.closed:  # torch may have moved the hook to where its handle does not find it
            return None
        if not isinstance(output, Tensor):
            raise ArgumentError(
                f"a dropout was inserted after a {type(module).__name__}, whose output is no tensor but "
                f"{type(output).__name__}: undo() it, and insert after a module that gives one tensor"
            )
        # an assignment at every pass would be an effect to torch.compile
        if self.follows and self.dropout.training != module.training:
            self.dropout.training = module.training
        dropped: Tensor = self.dropout(output)
        return dropped


def inserted_in(module: nn.Module) -> list[InsertedDropout]:
    """Return the hooks of the dropouts that stand behind a module, in their order."""
    hooks = module._forward_hooks.values()  # private, as torch has no public table of hooks
    return [hook for hook in hooks if isinstance(hook, InsertedDropout) and not hook.closed]


def named_inserted(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """Give each inserted dropout of a model: its name, ``MODULE:dropout``, the module before it, and itself."""
    for path, module in model.named_modules():
        for hook in inserted_in(module):
            yield f"{path or '(model)'}:{hook.name}", module, hook.dropout


def follow_modes(model: nn.Module) -> None:
    """Give inserted dropouts the training flags of the modules before them, as the next pass through them would."""
    for _, module, dropout in named_inserted(model):
        dropout.training = module.training


def record_before_inserted(model: nn.Module) -> None:
    """Let the hooks that record a module see its output as it is before an inserted dropout.

    As with a dropout module of its own behind it: node values are those without the mask. Recording hooks return
    nothing, so their place among the others does not change what the model computes.
    """
    for module in model.modules():
        if not inserted_in(module):
            continue
        hooks = module._forward_hooks
        entries = list(hooks.items())
        at = next(i for i, (_, hook) in enumerate(entries) if isinstance(hook, InsertedDropout))
        late = [entry for entry in entries[at:] if isinstance(entry[1], DropdiagHook)]
        others = [entry for entry in entries[at:] if not isinstance(entry[1], DropdiagHook)]
        hooks.clear()
        hooks.update([*entries[:at], *late, *others])
