"""Function modes below all others of their thread, wherever they are entered."""

from __future__ import annotations

from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._device import DeviceContext

# Private, all of them: torch has no public way to enter a mode anywhere but on top.


def put_lowest(mode: TorchFunctionMode) -> None:
    """Enter a mode below all others of this thread but that of a default device, which has to stay at the bottom."""
    above = [_pop_mode() for one in _stack() if not isinstance(one, DeviceContext)]  # type: ignore[no-untyped-call]
    _push_mode(mode)  # type: ignore[no-untyped-call]
    _push_again(above)


def take_off(mode: TorchFunctionMode) -> None:
    """Leave a mode wherever it is among those of this thread; nothing happens where it is not."""
    stack = _stack()
    if mode in stack:
        *above, _ = [_pop_mode() for _ in stack[stack.index(mode) :]]  # type: ignore[no-untyped-call]
        _push_again(above)


def _stack() -> list[TorchFunctionMode]:
    stack: list[TorchFunctionMode] = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return stack


def _push_again(popped: list[TorchFunctionMode]) -> None:
    for mode in reversed(popped):
        _push_mode(mode)  # type: ignore[no-untyped-call]
