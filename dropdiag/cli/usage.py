"""What the option parser refuses, in the words of all other messages: what was wrong, what was got, what to do."""

from __future__ import annotations

import re
from typing import Any, Final

from dropdiag.cli.words import running
from dropdiag.store.asked import did_you_mean

_COMMAND: Final = re.compile(r"No such command '(?P<got>.*?)'\.(?: Did you mean .*)?", re.DOTALL)
_EXTRA: Final = re.compile(r"Got unexpected extra argument(?:s|\(s\))? \((?P<got>.*)\)\.?", re.DOTALL)
_NUMBER: Final = re.compile(r"'(?P<got>.*)' is not a valid (?P<kind>\w+)( range)?\.", re.DOTALL)
_RANGE: Final = re.compile(r"(?P<got>\S+) is not in the range (?P<range>.*)\.", re.DOTALL)
_CHOICE: Final = re.compile(r"'(?P<got>.*)' is not one of (?P<choices>.*)\.", re.DOTALL)
_KINDS: Final = {"int": "an integer", "float": "a number", "bool": "true or false"}
_BOUNDS: Final = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def told(error: Any) -> str:
    """Return what a usage error says.

    Parameters
    ----------
    error : UsageError
        Of typer, which keeps its classes to itself: they are known by their names.
    """
    command = running.get()  # what is wrong with an option's value comes without a context
    called = "dropdiag" if command is None else command.called
    if error.ctx is not None:
        called = error.ctx.command_path
    said = _OF_KIND.get(type(error).__name__, _other)(error, called)
    if "--help" in said:
        return said
    return f"{said}{'' if said.endswith('?') else ';'} {called} --help explains it"


def _no_such_option(error: Any, called: str) -> str:
    known = [flag for one in error.ctx.command.get_params(error.ctx) for flag in one.opts if flag.startswith("--")]
    guess = did_you_mean(error.option_name, sorted(known)) or ";"
    return f"{error.option_name} is no option of {called}{guess} {called} --help lists them"


def _missing(error: Any, called: str) -> str:
    name = _name(error)
    says = getattr(error.param, "help", None)
    return f"{called} needs {name}" + (f": {_sentence(says)}" if says else ", and got none")


def _bad_option(error: Any, called: str) -> str:
    if "does not take a value" in error.message:
        return f"{error.option_name} of {called} takes no value and got one; write it alone"
    return f"{error.option_name} of {called} needs a value, and got none"


def _bad_value(error: Any, called: str) -> str:
    wanted, got = _wanted(error)
    name = f"{_name(error)} of {called}"
    if wanted is None:
        return f"{name} cannot be used as it is: {got}"
    return f"{name} takes {wanted}, got {got}"


def _wanted(error: Any) -> tuple[str | None, str]:
    """Return what is wanted and what was got; None and what is said of it where the parser does not tell them apart."""
    message = str(error.message).removeprefix("Value error, ")
    if match := _CHOICE.fullmatch(message):
        choices = [one.strip().strip("'") for one in match["choices"].split(",")]
        guess = did_you_mean(match["got"], choices).removesuffix(";")
        return " or ".join(choices), f"{match['got']!r}{guess}"
    # typer's own parser says what was wrong in data, click's, in older versions of typer, in a sentence
    if hasattr(error.__cause__, "errors"):
        first = error.__cause__.errors()[0]
        limits = first.get("ctx", {})
        bounds = [
            f"{words} {limits[key]:g}" for key, words in _BOUNDS.items() if isinstance(limits.get(key), (int, float))
        ]
        wanted = " and ".join(bounds) or _KINDS.get(str(first["type"]).partition("_")[0])
        return wanted, repr(first["input"]) if wanted else message.rstrip(".")
    if match := _NUMBER.fullmatch(message):
        return _KINDS.get({"integer": "int", "boolean": "bool"}.get(match["kind"], match["kind"]), match["kind"]), repr(
            match["got"]
        )
    if match := _RANGE.fullmatch(message):
        return f"a number in the range {match['range']}", match["got"]
    return None, message.rstrip(".")


def _other(error: Any, called: str) -> str:
    message = str(error.message)
    if match := _COMMAND.fullmatch(message):
        guess = did_you_mean(match["got"], list(error.ctx.command.list_commands(error.ctx))) or ";"
        return f"{match['got']!r} is no command of {called}{guess} {called} --help lists them"
    if match := _EXTRA.fullmatch(message):
        takes = " ".join(_called(one) for one in error.ctx.command.get_params(error.ctx) if _is_argument(one))
        return f"{called} takes {takes or 'no argument'}, got {match['got']} as well"
    return f"{called}: {message.rstrip('.')}"


def _name(error: Any) -> str:
    return "an argument" if error.param is None else _called(error.param)


def _called(param: Any) -> str:
    if _is_argument(param):
        return str(param.metavar or param.name.upper())
    return str(max(param.opts, key=len))


def _is_argument(param: Any) -> bool:
    return bool(param.param_type_name == "argument")


def _sentence(text: str) -> str:
    return (text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text).rstrip(".")


_OF_KIND: Final = {
    "NoSuchOption": _no_such_option, "MissingParameter": _missing, "BadOptionUsage": _bad_option,
    "BadParameter": _bad_value,
}  # fmt: skip
