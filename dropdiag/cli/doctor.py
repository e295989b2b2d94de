"""``dropdiag doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from dropdiag.cli.common import AsJson, clear_errors, echo_json
from dropdiag.cli.terminal import Page

if TYPE_CHECKING:
    from dropdiag.experiments.doctor.checks import Check

IMPORTED: Final = "torch, and what else is needed, can be imported"


@clear_errors()
def doctor(*, as_json: AsJson = False) -> None:
    """Say what this machine has for dropdiag, and try it: ten steps of a small network are recorded and compared.

    The numbers of the recorded run are compared with those that numpy has of the same training, and its weights, losses
    and random states with those of a training without a Recorder, on the CPU and on each accelerator that torch finds.
    All is written to a temporary folder, and removed. The exit code is 1 where something is not as it should be; that
    the compiled loops are missing is not: it is slower, and the same.

    **Examples**

    - `dropdiag doctor`
    - `dropdiag doctor --json > doctor.json` : for a report of a fault
    """
    from dropdiag.experiments.doctor.machine import (  # noqa: PLC0415 - as below
        OPTIONAL,
        compiler,
        native,
        system,
        versions,
    )

    found: dict[str, Any] = {
        "system": system(), "versions": versions(), "optional": versions(OPTIONAL), "compiler": compiler(),
        "native": native(), "devices": _devices(),
    }  # fmt: skip
    found["ok"] = all(device["ok"] for device in found["devices"])
    if as_json:
        echo_json(found)
    else:
        _show(found)
    if not found["ok"]:
        raise typer.Exit(1)


def _devices() -> list[dict[str, Any]]:
    try:
        from dropdiag.experiments.doctor.checks import devices, tested  # noqa: PLC0415 - torch is not paid for --help
    except (ImportError, OSError) as error:  # the second: a library of torch's that is missing or damaged
        checks = [{"name": IMPORTED, "ok": False, "detail": " ".join(f"{type(error).__name__}: {error}".split())}]
        return [{"device": "cpu", "name": "not tried", "ok": False, "checks": checks}]
    return [_told(device, name, tested(device)) for device, name in devices().items()]


def _told(device: str, name: str, checks: list[Check]) -> dict[str, Any]:
    return {"device": device, "name": name, "ok": all(one.ok for one in checks),
            "checks": [one._asdict() for one in checks]}  # fmt: skip


def _show(found: dict[str, Any]) -> None:
    page = Page()
    there = {name: version for name, version in found["optional"].items() if version}
    loops, cc = found["native"], found["compiler"]
    page.pairs({
        "system": f"{found['system']['implementation']} {found['system']['python']}, {found['system']['platform']}",
        "packages": _list(found["versions"]),
        "optional": _list(there) or "none",
        "compiler": cc["found"] or f"none: {cc['command']} is not found",
        "compiled loops": "in use" if loops["in_use"] else f"not in use: {loops['why']}",
    })  # fmt: skip
    for device in found["devices"]:
        page.line()
        page.line(f"{device['device']}: {device['name']}", style="bold")
        for check in device["checks"]:
            verdict = "ok" if check["ok"] else "wrong"
            page.line(f"{verdict:5}  {check['name']} ({check['detail']})", style="" if check["ok"] else "red", indent=2)
    page.line()
    page.line("all is well" if found["ok"] else "something is not as it should be", style="" if found["ok"] else "red")
    page.show()


def _list(versions: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
