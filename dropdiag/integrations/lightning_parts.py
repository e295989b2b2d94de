"""Which module of a LightningModule is recorded, where the user names none."""

from __future__ import annotations

import ast
import inspect
import textwrap

from lightning.pytorch import LightningModule
from torch import nn
from torchmetrics import Metric, MetricCollection


def recorded_part(whole: LightningModule) -> nn.Module:
    """Return the module that the steps call, as hooks on one that is not called see less.

    That is the part that holds all layers, where there is one, or the LightningModule, if a method of it calls
    ``self(x)``. Where methods call both, the part will do if ``forward`` does no more than to call it.
    """
    part = _lone_part(whole)
    if part is None:
        return whole
    name, child = part
    try:
        calls, forward = _written(whole)
    except (OSError, TypeError, SyntaxError):  # without a file: typed into a prompt, say
        return child if type(whole).forward in (LightningModule.forward, nn.Module.forward) else whole
    calls_part = any(call == f"self.{name}" or call.startswith(f"self.{name}.") for call in calls)
    return whole if calls & {"self", "self.forward"} and not (calls_part and _only_calls(forward, name)) else child


def _lone_part(whole: LightningModule) -> tuple[str, nn.Module] | None:
    """Return the part that holds all layers, if there is one. Metrics and losses are no layers."""
    parts = [(name, part) for name, part in whole.named_children() if not _beside(part)]
    own = next(whole.parameters(recurse=False), None)
    return parts[0] if len(parts) == 1 and own is None and any(True for _ in parts[0][1].children()) else None


def _beside(part: nn.Module) -> bool:
    return isinstance(part, (Metric, MetricCollection)) or type(part).__module__ == "torch.nn.modules.loss"


def _written(whole: LightningModule) -> tuple[set[str], ast.FunctionDef | None]:
    """Return what the user's methods call, all but ``forward``, as it is written; and ``forward`` itself."""
    calls: set[str] = set()
    forward = None
    for kind in type(whole).__mro__:
        if kind.__module__.split(".")[0] in ("lightning", "torch", "builtins"):
            continue
        [body] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        for method in ast.iter_child_nodes(body):
            if isinstance(method, ast.FunctionDef) and method.name == "forward":
                forward = forward or method
            else:
                calls |= {ast.unparse(node.func) for node in ast.walk(method) if isinstance(node, ast.Call)}
    return calls, forward


def _only_calls(forward: ast.FunctionDef | None, name: str) -> bool:
    """Whether all that is done is ``return self.NAME(...)``."""
    if forward is None:
        return False
    *before, last = forward.body
    documented = all(isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in before)
    called = last.value.func if isinstance(last, ast.Return) and isinstance(last.value, ast.Call) else None
    return documented and called is not None and ast.unparse(called) == f"self.{name}"
