"""A real browser with an emulated headset, for the tests of the page.

Chromium comes from the distribution, the browser's driver from PyPI (playwright), the emulated headset (IWER) from npm
into .setup/npm. A test is skipped, with the reason, only where one of them cannot be had.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

HERE = Path(__file__).parent
ROOT = Path(os.environ.get("BYTEMINI_ROOT", HERE.parents[3]))
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
TEST_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
SOFTWARE_GRAPHICS = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
EYES = {"width": 480, "height": 240}
"""Size of the page, px: graphics are computed on the processor, and both eyes fit in this at full frame rate."""


@pytest.fixture(scope="session")
def iwer() -> Path:
    """The script that emulates a headset; installed by the lock file beside this one, once."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed: there is no emulated headset (apt-get install npm)")
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = ROOT / ".setup" / "npm" / wanted
    script = folder / "node_modules" / "iwer" / "build" / "iwer.min.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        done = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"npm could not install the emulated headset: {done.stderr.strip().splitlines()[-1:]}")
    return script


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; of one module, since its driver keeps an event loop in this thread."""
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        try:
            flags = [*sandbox, *SOFTWARE_GRAPHICS, *TEST_CAMERA]
            browser = playwright.chromium.launch(executable_path=path, args=flags)
        except Error as error:
            pytest.skip(f"Chromium does not start here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """Opens pages: `open_page(url)` at a desk, `open_page(url, headset=True)` in an emulated Quest 3.

    Faults of the page's scripts fail the test.
    """
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def opened(
        url: str,
        *,
        headset: bool = False,
        size: dict[str, int] | None = None,
        before: Callable[[Page], None] | None = None,
    ) -> Page:
        context = chromium.new_context(ignore_https_errors=True, viewport=size or EYES)
        contexts.append(context)
        if headset:
            context.add_init_script(path=request.getfixturevalue("iwer"))
            context.add_init_script(path=HERE / "quest.js")
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        if before is not None:
            before(page)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults, f"the page has faults: {faults}"
