"""The command line: options in, one clear line out; no logic of its own. One file a command, gathered in `app`."""

from dropdiag.cli.app import app

__all__ = ["app"]
