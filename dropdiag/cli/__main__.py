"""``python -m dropdiag.cli``."""

from __future__ import annotations

from dropdiag.cli.program import app

if __name__ == "__main__":
    app(prog_name="dropdiag")
