"""What passes the activations of a network, read beneath PyTorch's dispatcher: slow, and without dropdiag.

Every ATen operation that is an activation is seen by a TorchDispatchMode: its input z before an in-place
operation overwrites it, its output h, and, by a pre-hook on the autograd node that made z, the whole dL/dz.
Nothing is known of modules but where the network's forward pass begins and ends, and of what lies inside
modules that are several operations (recurrent layers, attention, composite activations).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode

from tests.zoo.tally import Pass, Phi, Tally

ACTIVATIONS: Final = frozenset(
    [
        "_prelu_kernel",
        "celu",
        "elu",
        "gelu",
        "glu",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "log_sigmoid_forward",
        "mish",
        "relu",
        "rrelu_with_noise",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "tanh",
        "threshold",
    ]
)
_MASKS: Final = frozenset(("bernoulli", "native_dropout"))
_OUTPUTS: Final = (nn.RNNBase, nn.MultiheadAttention)


def _phi(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Phi | None:
    """Return an operation as a function of its net value alone."""
    if name == "glu":
        return torch.sigmoid
    if name in ("_prelu_kernel", "rrelu_with_noise"):
        return None
    operation, rest = getattr(torch.ops.aten, name), args[1:]

    def phi(z: Tensor) -> Tensor:
        out = operation(z, *rest, **kwargs)
        return out[0] if isinstance(out, tuple) else out

    return phi


class SlowReader(TorchDispatchMode):
    """Read the passes of networks while they train.

    Parameters
    ----------
    parts : mapping
        The networks by name. Their ``forward`` is wrapped, for good.
    composites : iterable of str
        Type names of activation modules to be read at the module.
    also : iterable of str
        Further ATen operations that are activations here.

    Attributes
    ----------
    dropped : set of str
        Networks in which masks were drawn, outside of recurrent layers and attention.
    """

    def __init__(
        self, parts: Mapping[str, nn.Module], composites: Iterable[str] = (), also: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self._forwards: dict[str, list[list[Pass]]] = {name: [] for name in parts}
        self._into: list[Pass] | None = None
        self._part = ""
        self._hushed = False
        self._unclaimed: dict[bytes, list[Pass]] = {}
        self._handles: list[Any] = []
        self._gradients: dict[int, tuple[Tally, dict[int, Tally]]] = {}
        self._accumulating: set[int] = set()
        self._hooked: dict[int, Tensor] = {}
        self.dropped: set[str] = set()
        self._activations = ACTIVATIONS.union(also)
        names = set(composites)
        for part, model in parts.items():
            for module in model.modules():
                composite = type(module).__name__ in names
                if composite or isinstance(module, (*_OUTPUTS, nn.RNNCellBase)):
                    module.forward = self._opaque(module.forward, type(module).__name__, composite=composite)
            model.forward = self._begins(model.forward, part)

    def step_ends(self, *, training: bool = True) -> dict[str, list[Pass]]:
        """Return the passes since the last step, by network, the forward passes of each merged.

        Of a training step, those without gradients do not count, unless a checkpoint ran them again.
        """
        self._settle()
        read = {}
        for part, forwards in self._forwards.items():
            counted = [[p for p in one if not (training and p.without_gradients and not p.dz.n)] for one in forwards]
            first, *others = counted or [[]]
            for other in others:
                for mine, its in zip(first, other, strict=True):
                    mine.merge(its)
            read[part] = first
            self._forwards[part] = []
        self._unclaimed.clear()
        while self._handles:
            self._handles.pop().remove()
        return read

    def _settle(self) -> None:
        """Take in the gradients of those backward passes that have added to a parameter's, if one only has."""
        for into, by_pass in self._gradients.values():
            counted = [tally for number, tally in by_pass.items() if number in self._accumulating]
            if len(counted) == 1:  # the sizes of a sum do not follow from those of its terms
                into.merge(counted[0])
        self._gradients.clear()
        self._accumulating.clear()

    def _watch(self, model: nn.Module) -> None:
        for parameter in model.parameters():
            if type(parameter) is nn.Parameter and parameter.requires_grad and id(parameter) not in self._hooked:
                self._hooked[id(parameter)] = parameter
                parameter.register_post_accumulate_grad_hook(
                    lambda _: self._accumulating.add(torch._C._current_graph_task_id())
                )

    def _begins(self, forward: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(forward)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._watch(forward.__self__)
            outer, self._into = self._into, []
            self._forwards[part].append(self._into)
            outer_part, self._part = self._part, part
            try:
                return forward(*args, **kwargs)
            finally:
                self._into, self._part = outer, outer_part

        return wrapped

    def _opaque(self, forward: Callable[..., Any], name: str, *, composite: bool) -> Callable[..., Any]:
        @functools.wraps(forward)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            taken = self._take(name, args[0], forward) if composite else None
            with self._hush():
                out = forward(*args, **kwargs)
            if composite and taken is not None:
                taken.h.add(out)
            elif not composite and isinstance(out, tuple) and self._into is not None:
                data = out[0].data if isinstance(out[0], PackedSequence) else out[0]
                self._into.append(Pass(name))
                self._into[-1].h.add(data)
            return out

        return wrapped

    @contextmanager
    def _hush(self):
        before, self._hushed = self._hushed, True
        try:
            yield
        finally:
            self._hushed = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out an operation; keep what an activation is given and gives."""
        name = func.overloadpacket.__name__.rstrip("_")
        taken = None
        if name in self._activations and not self._hushed:
            dim = (args[1] if len(args) > 1 else -1) if name == "glu" else None
            taken = self._take(name, args[0], _phi(name, args, kwargs or {}), dim)
        elif name in _MASKS and self._part and not self._hushed:
            self.dropped.add(self._part)
        out = func(*args, **(kwargs or {}))
        if taken is not None:
            taken.h.add(out[0] if isinstance(out, tuple) else out)
        return out

    def _take(self, name: str, z: Tensor, phi: Phi | None, gate_dim: int | None = None) -> Pass | None:
        def net(tensor: Tensor) -> Tensor:
            return tensor if gate_dim is None else tensor.chunk(2, gate_dim)[1]

        taken = Pass(name, phi, without_gradients=not torch.is_grad_enabled())
        taken.z.add(net(z))
        taken.net_values.append(net(z).detach().double().numpy().ravel().copy())
        values = name.encode() + z.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        if torch._C._current_graph_task_id() != -1:  # inside backward: checkpointing recomputes
            held = self._unclaimed.get(values)
            if held and z.requires_grad:
                self._read_gradient(z, held.pop(0).dz, net)
            return None
        if self._into is None:
            return None
        self._into.append(taken)
        if z.requires_grad:
            self._read_gradient(z, taken.dz, net)
        elif not torch.is_grad_enabled():
            self._unclaimed.setdefault(values, []).append(taken)
        return taken

    def _read_gradient(self, z: Tensor, into: Tally, net: Callable[[Tensor], Tensor]) -> None:
        def reads(gradient: Tensor | None) -> None:
            if gradient is not None:
                _, by_pass = self._gradients.setdefault(id(into), (into, {}))
                by_pass.setdefault(torch._C._current_graph_task_id(), Tally()).add(net(gradient))

        if z.grad_fn is None:  # a parameter; its node belongs to the next backward pass alone
            self._handles.append(z.register_hook(reads))
        else:
            number = z.output_nr
            self._handles.append(z.grad_fn.register_prehook(lambda gradients: reads(gradients[number])))
