"""What the forward method of a module class does with dropout rates, read from its code without running it."""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import textwrap
from collections import Counter
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from dropdiag.model.dropouts import DROPOUT_KINDS, DropoutKind

KEYWORDS: Final = ("attention_dropout", "dropout_p", "dropout")
"""What attention functions that torch does not have (those of transformers, torchvision, flash attention) call a rate.

Beside an ``attention_dropout``, ``dropout`` is that of the output.
"""


COMPARED: Final = ("layerdrop", "layer_drop", "dropout", "drop_prob", "drop_rate", "drop_path")
"""Parts of the names under which modules hold a rate that they compare with a random number themselves."""


class CalledDropout(NamedTuple):
    """A dropout that a method draws by calling a function.

    Attributes
    ----------
    function : str
    grain : str
    attribute : str
        The attribute of the module that is the rate, or ``PART.ATTRIBUTE`` of what the module holds; empty where the
        rate is a number in the code, or computed.
    written : str
        The rate as the method writes it.
    """

    function: str
    grain: str
    attribute: str
    written: str


def methods(kind: type[nn.Module], names: tuple[str, ...] = ("forward",)) -> Iterator[FunctionType]:
    """Give the methods of a class, and those that they use of the same module."""
    waiting, seen = list(names), set(names)
    while waiting:
        name = waiting.pop()
        for owner in kind.__mro__[: kind.__mro__.index(nn.Module)]:
            function = _function(vars(owner).get(name))
            if function is None:
                continue
            yield function
            used = _names(function.__code__)
            waiting += used - seen
            seen |= used
            if "super" not in used:
                break


def _function(found: Any) -> FunctionType | None:
    if isinstance(found, property):
        found = found.fget
    found = inspect.unwrap(found) if callable(found) else found
    return found if isinstance(found, FunctionType) else None


def _names(code: CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))


def reads(kind: type[nn.Module], attribute: str) -> bool:
    """Whether a forward pass of a module looks an attribute up."""
    return any(attribute in _names(method.__code__) for method in methods(kind))


def assigns(kind: type[nn.Module], attribute: str, *, own: bool) -> bool:
    """Whether a module assigns to an attribute of this name, as it runs or by its method `step`.

    Parameters
    ----------
    kind : type
    attribute : str
    own : bool
        True: to its own (``self.p = ...``); False: to that of something else (``self.drop.p = ...``).
    """
    for method in methods(kind, ("forward", "step")):
        before = None
        for instruction in dis.get_instructions(method):
            if instruction.opname == "STORE_ATTR" and instruction.argval == attribute:
                of_self = before is not None and _loads_self(before, method)
                if of_self is own:
                    return True
            before = instruction
    return False


def _loads_self(instruction: dis.Instruction, method: FunctionType) -> bool:
    # Newer versions of Python load two variables at once, the object that is assigned to last.
    loaded = instruction.argval[-1] if isinstance(instruction.argval, tuple) else instruction.argval
    return instruction.opname.startswith("LOAD_FAST") and loaded == method.__code__.co_varnames[0]


def called_dropouts(kind: type[nn.Module]) -> tuple[CalledDropout, ...]:
    """Return the dropouts that a class draws by calling functions, each rate once; none for torch's own classes.

    Where the source of a method cannot be had (as that of code which was typed into a plain interpreter), nothing of
    it is found.
    """
    own = (method for method in methods(kind) if not str(method.__module__).startswith("torch."))
    found = (called for method in own if _may_drop(method) for called in _Reader(method).found())
    return tuple(dict.fromkeys(found))


def _functions() -> dict[int, tuple[str, DropoutKind]]:
    known = [(name, kind) for kind in DROPOUT_KINDS for name in kind.functions]
    spelled = ((getattr(home, n + end, None), n, k) for n, k in known for end in ("", "_") for home in (F, torch))
    return {id(function): (name, kind) for function, name, kind in spelled if function is not None}


FUNCTIONS: Final = _functions()
"""By id, as what a method's globals hold may have no hash, or an ``==`` of its own."""


def _may_drop(method: FunctionType) -> bool:
    """Whether it is worth reading a method's source: it takes its time."""
    code = method.__code__
    words = [*code.co_names, *code.co_varnames, *(c for c in code.co_consts if isinstance(c, tuple))]
    known = (method.__globals__.get(name) for name in code.co_names)
    return "drop" in str(words).lower() or any(id(value) in FUNCTIONS for value in known)


class _Reader:
    """Reads one method."""

    def __init__(self, method: FunctionType) -> None:
        self._globals = method.__globals__
        try:
            source = ast.parse(textwrap.dedent(inspect.getsource(method)))
        except (OSError, TypeError, SyntaxError):  # no source, or part of an expression
            source = ast.Module([], [])
        self._nodes = list(ast.walk(source))
        self._self = method.__code__.co_varnames[0] if method.__code__.co_argcount else ""
        self._assigned: dict[str, list[ast.expr]] = {}
        for node in self._nodes:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                self._assigned.setdefault(node.targets[0].id, []).append(node.value)
        stored = (node.id for node in self._nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        arguments = (node.arg for node in self._nodes if isinstance(node, ast.arg))
        self._stored = Counter([*stored, *arguments])

    def found(self) -> Iterator[CalledDropout]:
        for node in self._nodes:
            if isinstance(node, ast.Call):
                yield from self._call(node)
            elif isinstance(node, ast.Compare):
                yield from self._comparison(node)

    def _call(self, call: ast.Call) -> Iterator[CalledDropout]:
        function = self._value(call.func)
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        if id(function) in FUNCTIONS:
            name, kind = FUNCTIONS[id(function)]
            position, keyword, default = kind.argument
            positional = call.args[position] if position < len(call.args) else ast.Constant(default)
            yield from self._rate(name, kind.grain, keywords.get(keyword, positional))
            return
        given = [] if self._attribute(call.func) else [keyword for keyword in KEYWORDS if keyword in keywords]
        for number, keyword in enumerate(given):
            function, grain = ("dropout", "element") if number else ("attention_dropout", "attention weight")
            yield from self._rate(function, grain, keywords[keyword])

    def _rate(self, function: str, grain: str, rate: ast.expr) -> Iterator[CalledDropout]:
        never = isinstance(rate, ast.Constant) and not rate.value
        if not never:
            yield CalledDropout(function, grain, self._held(rate), ast.unparse(rate))

    def _comparison(self, comparison: ast.Compare) -> Iterator[CalledDropout]:
        """Find what leaves out whole layers: a random number compared with ``self.layerdrop``."""
        if not isinstance(comparison.ops[0], (ast.Lt, ast.Gt, ast.LtE, ast.GtE)):
            return
        sides = (comparison.left, *comparison.comparators)
        if any(isinstance(side, ast.Constant) for side in sides):
            return
        for side in sides:
            attribute = self._attribute(side)
            if any(word in attribute.lower() for word in COMPARED):
                yield CalledDropout("layerdrop", "block", attribute, ast.unparse(side))

    def _held(self, rate: ast.expr) -> str:
        """Return the attribute that a rate is, as it stands or through a local variable; nothing if it is computed."""
        if isinstance(rate, ast.IfExp):  # self.p if self.training else 0.0
            return self._one_of([rate.body, rate.orelse])
        if isinstance(rate, ast.Name):
            # Taken out, as it may be assigned from itself; and it may be bound in other ways: p *= 2, for p in ...
            values = self._assigned.pop(rate.id, [])
            held = self._one_of(values) if len(values) == self._stored[rate.id] else ""
            self._assigned[rate.id] = values
            return held
        if isinstance(rate, ast.Call) and self._value(rate.func) is float and len(rate.args) == 1:
            return self._held(rate.args[0])
        return self._attribute(rate)

    def _one_of(self, rates: list[ast.expr]) -> str:
        found = {self._held(rate) for rate in rates if not (isinstance(rate, ast.Constant) and not rate.value)}
        return found.pop() if len(found) == 1 else ""

    def _attribute(self, node: ast.expr) -> str:
        """Return ``ATTRIBUTE`` or ``PART.ATTRIBUTE`` where an expression is that of the module, else nothing."""
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
            return ""
        if isinstance(node.value, ast.Name):
            return node.attr if node.value.id == self._self else ""
        inner = self._attribute(node.value)
        return f"{inner}.{node.attr}" if inner else ""

    def _value(self, node: ast.expr) -> Any:
        """Return what a name of the method's module stands for, as ``F.dropout``."""
        if isinstance(node, ast.Name):
            of_module = self._globals.get(node.id, vars(builtins).get(node.id))
            return None if node.id in self._stored else of_module
        owner = self._value(node.value) if isinstance(node, ast.Attribute) else None
        # Not getattr(), which makes lazy packages import and properties compute.
        return vars(owner).get(node.attr) if isinstance(owner, ModuleType) and isinstance(node, ast.Attribute) else None
