"""The snippet for web pages, in a real browser: two origins, preflights and all."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from feedbackloop.capture import votes
from feedbackloop.capture.record import Voted
from feedbackloop.events import Thumb, ThumbGiven, ThumbWithdrawn
from services.guard import Receive, Scope, Send
from services.sidecar.entrance import Rules
from tests.services.asgi import serving
from tests.services.sidecar.stub import HELLO, World, a_world
from tests.services.sidecar.test_entrance import a_key

pytestmark = pytest.mark.browser

SNIPPET = Path("docs/clients/thumbs.js").read_bytes()
PATIENCE_SECONDS = 20


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    """Start Chromium without a window; Debian's packages chromium and chromium-driver."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no browser: install chromium and chromium-driver")
    options = ChromeOptions()
    options.binary_location = binary
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "no-proxy-server"):
        options.add_argument(f"--{flag}")
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


class Pages:
    """A product's own web server, on an origin of its own."""

    def __init__(self) -> None:
        self.html = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        script = scope["path"].endswith(".js")
        kind = b"text/javascript; charset=utf-8" if script else b"text/html; charset=utf-8"
        body = SNIPPET if script else self.html
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def show(self, completion: str, sidecar: str) -> None:
        """Show one answer, with thumbs under it."""
        self.html = (
            f'<!doctype html><p>Four. <span data-completion="{completion}"></span></p>'
            f'<script src="thumbs.js" data-feedback="{sidecar}/v1/feedback" defer></script>'
        ).encode()


def click(browser: Chrome, label: str, *, pressed: bool) -> None:
    """Press a button, and wait until it shows that the vote was taken."""
    button = browser.find_element(By.CSS_SELECTOR, f'button[aria-label="{label}"]')
    button.click()
    state = "true" if pressed else "false"
    WebDriverWait(browser, PATIENCE_SECONDS).until(
        lambda _: button.get_attribute("aria-pressed") == state
    )


def said(world: World) -> list[object]:
    """Return what the page's reader said, in order."""
    records = [one for one in world.records() if isinstance(one, Voted)]
    signals = [signal for record in records for signal in votes.signals(record)]
    return [one.thumb if isinstance(one, ThumbGiven) else type(one) for one in signals]


async def test_a_reader_votes_and_thinks_again(tmp_path: Path, browser: Chrome) -> None:
    """Up, down instead, and then neither: from another origin, without a key in the page."""
    pages = Pages()
    async with (
        serving(pages) as page,
        a_world(tmp_path, keys_required=True, rules=Rules(origins=frozenset({page}))) as world,
    ):
        reply = await world.client.post(
            "/v1/chat/completions", json={**HELLO, "user": "ann"}, headers=a_key(tmp_path)
        )
        pages.show(reply.headers["x-request-id"], world.url)

        await asyncio.to_thread(browser.get, page)
        await asyncio.to_thread(click, browser, "up", pressed=True)
        await asyncio.to_thread(click, browser, "down", pressed=True)
        await asyncio.to_thread(click, browser, "down", pressed=False)

    assert said(world) == [Thumb.UP, Thumb.DOWN, ThumbWithdrawn]


async def test_a_page_that_is_not_listed_cannot_vote(tmp_path: Path, browser: Chrome) -> None:
    """The browser asks first, is told no, and sends nothing."""
    pages = Pages()
    rules = Rules(origins=frozenset({"https://chat.example"}))
    async with serving(pages) as page, a_world(tmp_path, rules=rules) as world:
        reply = await world.client.post("/v1/chat/completions", json=HELLO)
        pages.show(reply.headers["x-request-id"], world.url)

        await asyncio.to_thread(browser.get, page)
        call = f"""
            const done = arguments[arguments.length - 1];
            fetch("{world.url}/v1/feedback", {{
                method: "POST",
                headers: {{"content-type": "application/json"}},
                body: JSON.stringify({{completion_id: "x", thumb: "up"}}),
            }}).then(() => done("sent"), (error) => done(String(error)));
        """
        outcome = await asyncio.to_thread(browser.execute_async_script, call)

    assert "Failed to fetch" in outcome
    assert said(world) == []
