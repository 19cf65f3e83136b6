"""A headless Chromium of the system, for the tests that click through a page."""

import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium():
    """The browser, or a skipped test that says what is missing."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: install the package chromium to test the page in a browser")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright to test the page"
    )
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page with all that it asked for and complained of.

    requests: addresses. errors: exceptions and messages of the console, but those about answers, which the page shows.
    """

    def __init__(self, browser, address, width=1200, height=900, **settings):
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, **settings
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(120000)  # other programs may want the processor too
        self.requests, self.errors = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.goto(address)

    def _note(self, message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def __enter__(self):
        return self.page

    def __exit__(self, kind, error, trace):
        self.context.close()
        if error is None:
            assert not self.errors, self.errors
            hosts = {
                urlsplit(url).hostname for url in self.requests if not url.startswith(("data:", "blob:"))
            }
            assert hosts <= {"127.0.0.1"}, hosts
