"""People who use the console in a real browser. Whatever a page complains about fails the test."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from support.server import RunningServer
from support.tenancy import Keyring

_AXE = (Path(__file__).with_name("axe") / "axe.min.js").read_text(encoding="utf-8")
_RUN_AXE = "() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})"
_SERIOUS = {"serious", "critical"}


@dataclass
class People:
    """Opens the console for people of tenants and roles."""

    server: RunningServer
    browser: Browser
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of all pages: of scripts, of requests, and of the content security policy."""
    _contexts: list[BrowserContext] = field(default_factory=list)

    def key(self, tenant: str, role: str) -> str:
        """Make a key; its text."""
        return Keyring(self.server).key(tenant, role)

    def open(self, key: str, path: str = "", **options: Any) -> Page:
        """Sign in with a key in a browser of its own, and open a page."""
        page = self.stranger(**options)
        page.goto(f"{self.server.url}/console/sign-in")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Sign out").wait_for()
        if path:
            page.goto(f"{self.server.url}/console/{path}")
        return page

    def stranger(self, **options: Any) -> Page:
        """Open a browser that is not signed in."""
        context = self.browser.new_context(base_url=self.server.url, accept_downloads=True, **options)
        context.set_default_timeout(10_000)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", self._noted)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        return page

    def _noted(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.location.get('url')}: {message.text}")

    def leave(self) -> None:
        """Close all browsers; fail if a page has complained."""
        for context in self._contexts:
            context.close()
        assert self.complaints == [], "\n".join(self.complaints)


@contextmanager
def reloaded(page: Page) -> Iterator[None]:
    """Wait, at the end of the block, until the page has loaded its main part again, as it does after a change."""
    page.locator("#main").evaluate("main => { main.dataset.old = '' }")
    yield
    page.locator("#main:not([data-old])").wait_for()


def check_accessible(page: Page) -> None:
    """Fail at serious faults that axe-core finds by WCAG 2.2, level AA."""
    page.evaluate(_AXE)
    found = page.evaluate(_RUN_AXE)["violations"]
    faults = [
        {"fault": each["id"], "help": each["help"], "at": [node["html"][:160] for node in each["nodes"][:3]]}
        for each in found
        if each["impact"] in _SERIOUS
    ]
    assert faults == [], f"{page.url}: {json.dumps(faults, indent=1)}"


def check_fits(page: Page) -> None:
    """Fail if the page is wider than the window: then a phone scrolls sideways."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url
