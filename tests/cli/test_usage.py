"""What the option parser refuses is told as every other error is: one line, what was wrong, what was got, what to do."""

from __future__ import annotations

import pytest

from .conftest import call


@pytest.mark.parametrize(("line", "message"), [
    ("compre", "'compre' is no command of dropdiag; did you mean 'compare'? dropdiag --help lists them"),
    ("zzz", "'zzz' is no command of dropdiag; dropdiag --help lists them"),
    ("--versoin", "--versoin is no option of dropdiag; did you mean '--version'? dropdiag --help lists them"),
    ("compare --basline x a", "--basline is no option of dropdiag compare; did you mean '--baseline'? dropdiag compare --help lists them"),
    ("ls --zzz r", "--zzz is no option of dropdiag ls; dropdiag ls --help lists them"),
    ("show", "dropdiag show needs RUN: a run folder; it may still be recorded; dropdiag show --help explains it"),
    ("export r --out x", "dropdiag export needs --to: csv, or tensorboard (needs that package); dropdiag export --help explains it"),
    ("export r --to", "--to of dropdiag export needs a value, and got none; dropdiag export --help explains it"),
    ("ls r --json=1", "--json of dropdiag ls takes no value and got one; write it alone; dropdiag ls --help explains it"),
    ("export r --to cvs --out x", "--to of dropdiag export takes csv or tensorboard, got 'cvs'; did you mean 'csv'? dropdiag export --help explains it"),
    ("watch r --port x", "--port of dropdiag watch takes an integer, got 'x'; dropdiag watch --help explains it"),
    ("watch r --interval soon", "--interval of dropdiag watch takes a number, got 'soon'; dropdiag watch --help explains it"),
    ("watch r --port 99999", "--port of dropdiag watch takes at most 65535, got '99999'; dropdiag watch --help explains it"),
    ("show a b", "dropdiag show takes RUN, got b as well; dropdiag show --help explains it"),
    ("reproduce --seeds 0", "--seeds of dropdiag reproduce takes at least 1, got '0'; dropdiag reproduce --help explains it"),
])  # fmt: skip
def test_messages(line, message):
    assert call(*line.split()) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize("command", ["show", "coverage", "ls", "compare", "report", "advise", "watch", "catalog"])
def test_an_empty_path_is_not_this_folder(command):
    code, out, err = call(command, "")
    assert (code, out) == (2, "")
    assert (
        err
        == "error: a path is empty, as of a variable of the shell that is not set; give the folder, or . for this one\n"
    )


@pytest.mark.parametrize("line", ["", "--help", "show --help"])
def test_help_is_help(line):
    code, out, err = call(*line.split())
    assert "Usage:" in out + err
    assert code in {0, 2}
