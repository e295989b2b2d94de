"""A headless Chromium for all tests; without one those that need it skip and say so.

One a process: a second Playwright cannot start beside the first.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


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
