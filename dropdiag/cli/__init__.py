"""The command line: options in, one clear line out; no logic of its own. One file a command, gathered in `program`."""

from dropdiag.cli.program import app

__all__ = ["app"]
