"""The function that trains, as another process finds it: by its file or module, and its name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final, TypeAlias

from dropdiag.errors import ArgumentError

Train: TypeAlias = Callable[[Mapping[str, Any], Path], object]
"""``train(config, path)``: trains one network, and records it into ``path``."""

_WRITE: Final = (
    "write it into a file of its own (in a notebook: a cell that begins with %%writefile train.py) and give "
    '"train.py:train", or engine="here", which trains in this process, one run after the other'
)
DIGITS: Final = 16


@dataclass(frozen=True)
class Function:
    """Where a function stands that can be imported.

    Attributes
    ----------
    file : Path
        Absolute.
    name : str
    module : str or None
        As it is imported where it is part of a package; a file alone is loaded by its path.
    """

    file: Path
    name: str
    module: str | None = None

    @property
    def text(self) -> str:
        """``FILE.py:NAME``, or ``MODULE:NAME``."""
        return f"{self.module or self.file}:{self.name}"

    @property
    def described(self) -> str:
        """What a run says of it, wherever the file lies: its name and the digest of the file.

        Raises
        ------
        ArgumentError
            If the file cannot be read.
        """
        try:
            digest = hashlib.sha256(self.file.read_bytes()).hexdigest()[:DIGITS]
        except OSError as error:
            raise ArgumentError(f"{self.file} cannot be read: {error.strerror}; give train as FILE.py:NAME") from None
        return f"{self.module or self.file.name}:{self.name}, sha256 {digest}"

    def load(self) -> Train:
        """Import the function.

        Raises
        ------
        ArgumentError
            If the file has no such function. What the file itself raises goes through.
        """
        top = len((self.module or "").split("."))
        folder = str(self.file.parents[top - 1 if self.file.name != "__init__.py" else top])
        if folder not in sys.path:  # as `python FILE.py` has it, so that the file finds what lies beside it
            sys.path.insert(0, folder)
        module = importlib.import_module(self.module) if self.module else _loaded(self.file)
        found = getattr(module, self.name, None)
        if not callable(found):
            names = ", ".join(name for name, value in vars(module).items() if inspect.isfunction(value)) or "none"
            raise ArgumentError(f"{self.file} has no function {self.name!r}; its functions are {names}")
        check_takes(found)
        return found  # type: ignore[no-any-return]

    @classmethod
    def named(cls, text: str) -> Function:
        """Return the function that ``FILE.py:NAME`` or ``MODULE:NAME`` means.

        Raises
        ------
        ArgumentError
            If there is no such file or module, or there is no name.
        """
        where, colon, name = text.rpartition(":")
        if not colon or not where or not name.isidentifier():
            raise ArgumentError(f"train is given as FILE.py:NAME or MODULE:NAME, as train.py:train; got {text!r}")
        if where.endswith(".py"):
            file = Path(where).expanduser().absolute()
            if not file.is_file():
                raise ArgumentError(f"there is no file {file}; give train as FILE.py:NAME")
            return cls(file, name)
        file = _file_of(where)
        return cls(file, name, _package(where, file))

    @classmethod
    def of(cls, train: Any) -> Function:
        """Return where a function stands.

        Raises
        ------
        ArgumentError
            If no other process could import it: a lambda, a function inside another one, one of a notebook or of an
            interactive session, an object.
        """
        name, qualified = getattr(train, "__name__", None), getattr(train, "__qualname__", None)
        if not inspect.isfunction(train) or name is None or qualified != name or not name.isidentifier():
            what = "a function inside another one" if "<locals>" in str(qualified) else repr(train)
            what = "a lambda" if name == "<lambda>" else what
            raise ArgumentError(f"train is {what}, which no other process can import: {_WRITE}")
        module = sys.modules.get(train.__module__)
        file = getattr(module, "__file__", None)
        if file is None or (train.__module__ == "__main__" and not _stands_in(train, Path(file))):
            what = "a function of a notebook or of an interactive session"
            raise ArgumentError(f"train is {what}, which no other process can import: {_WRITE}")
        if getattr(module, name, None) is not train:
            raise ArgumentError(f"train is not what {train.__module__} has under the name {name!r}: {_WRITE}")
        return cls(Path(file).absolute(), name, _package(train.__module__, Path(file)))


def _package(module: str, file: Path) -> str | None:
    """Return the name of a module that is part of a package, or one."""
    return module if "." in module or file.name == "__init__.py" else None


def _stands_in(function: Any, file: Path) -> bool:
    # the code of a cell, or of what was typed, has a file that nobody can read
    written = Path(inspect.unwrap(function).__code__.co_filename)
    return file.is_file() and written.name == file.name


def described_here(train: Any) -> str:
    """Return what a run says of a function of this process alone: its name, and a digest of what it does."""
    name = getattr(train, "__name__", type(train).__name__)
    code = getattr(train, "__code__", None) or getattr(type(train).__call__, "__code__", None)
    if code is None:
        return f"{name} of one process, whose changes are not known"
    return f"{name} of one process, sha256 {hashlib.sha256(_written(code).encode()).hexdigest()[:DIGITS]}"


def _written(code: CodeType) -> str:
    """Return what a function does as text, wherever it stands: a cell that is run again has another line or file."""
    return repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars, [*map(_constant, code.co_consts)]))


def _constant(one: object) -> str:
    if isinstance(one, frozenset):  # whose order is another one in each process
        return repr(sorted(map(_constant, one)))
    return _written(one) if isinstance(one, CodeType) else repr(one)


def check_takes(train: Train) -> None:
    """Raise `ArgumentError` unless a function can be called as ``train(config, path)``."""
    try:
        inspect.signature(train).bind({}, Path())
    except TypeError as error:
        raise ArgumentError(f"train is called as train(config, path), which it does not take: {error}") from None


def _file_of(module: str) -> Path:
    if (here := str(Path.cwd())) not in sys.path:  # as `python -m` has it
        sys.path.insert(0, here)
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.origin or not Path(found.origin).is_file():
        raise ArgumentError(f"there is no module {module!r}; give train as FILE.py:NAME or MODULE:NAME")
    return Path(found.origin).absolute()


def _loaded(file: Path) -> ModuleType:
    """Load a file as a module of its own name, never as ``__main__``."""
    # under its own name, by which the workers of a DataLoader find it, unless another module has that
    name = f"dropdiag_{file.stem}" if file.stem in sys.modules else file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ArgumentError(f"{file} is no file of Python's; give train as FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
