"""A browser for the tests of a module, and pages in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Open

CHROMIUM = [Path(f"/usr/bin/{name}") for name in ("chromium-headless-shell", "chromium")]
"""The first is the same engine without the browser around it, and takes half the time."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[test]'")
    pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    chromium = next((path for path in CHROMIUM if path.exists()), None)
    if chromium is None:
        pytest.skip(f"needs a browser: there is no {' and no '.join(map(str, CHROMIUM))}")
    with playwright.sync_playwright() as started:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        launched = started.chromium.launch(executable_path=str(chromium), args=quiet)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    """Opens a file in a browser's context of its own; what it asks for and complains of is kept on the page."""
    contexts = []

    def open_page(file: Path, width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.requests, page.complaints = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (page.complaints.append("a dialog"), dialog.dismiss()))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
