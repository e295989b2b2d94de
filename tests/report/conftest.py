"""Runs, pages and a headless Chromium for the report's tests; without a Chromium those that need it skip and say so."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from filelock import FileLock

import dropdiag as dd
from dropdiag.store.reader import Runs
from tests.report.folders import transformer
from tests.report.stand_in import comparison
from tests.synthetic import write_runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Three conditions, three seeds, three layers: what the reproduction records."""
    return write_runs(tmp_path_factory.mktemp("runs"), seeds=(0, 1, 2), steps=60)


@pytest.fixture(scope="session")
def page_file(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dd.report(comparison(runs), tmp_path_factory.mktemp("page") / "report.html", title="Three conditions")


@pytest.fixture(scope="session")
def deep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 layers, three conditions, 100 steps, one seed; made once for all workers."""
    # without workers the folder above is that of all runs of the tests: a page of an earlier one would be taken
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    file = shared / "deep.html"
    with FileLock(shared / "deep.lock"):
        if not file.exists():
            dd.report(comparison(transformer(shared / "deep", layers=50, steps=100, seeds=1, size=300)), file)
    return file


@dataclass
class Seen:
    """What a page said and asked for while it was open."""

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: `apt-get install chromium` makes the browser tests run")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the browser tests need it")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Open a page at a size and colour scheme; at the end it must have said nothing and asked for nothing foreign."""

    @contextlib.contextmanager
    def opened(address: str | Path, size: str = "desktop", scheme: str = "light", ready: bool = True):
        phone = size == "phone"
        context = chromium.new_context(
            viewport=SIZES[size], color_scheme=scheme, has_touch=phone, accept_downloads=True
        )
        page, seen = context.new_page(), Seen()
        page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.said.append(f"error: {error}"))
        page.on("request", lambda request: seen.asked.append(request.url))
        address = address if isinstance(address, str) else address.as_uri()
        page.goto(address)
        if ready:
            page.wait_for_selector("body[data-ready]", timeout=300_000)
        yield page
        assert seen.said == []
        own = address.split("?")[0]
        assert [url for url in seen.asked if not url.startswith((own, "data:", "blob:"))] == []
        context.close()

    return opened
