"""The page in headless Chromium: live, cancelling, accessible, small, and on its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from efaas_gateway.api.app import PAGE
from efaas_gateway.store import Append
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.gateway.running import TOKEN, RunningGateway
from tests.gateway.test_accounts_and_reports import report
from tests.gateway.test_read_api import Cancels, fill
from tests.gateway.test_store_journals import iteration, opened

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
VIEWS = ["#/", "#/sessions/red/h2", "#/devices/lagos", "#/usage"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Chromium is missing; install Debian's package chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    gateway = RunningGateway(
        str(tmp_path_factory.mktemp("page") / "gateway.db"),
        canceller=Cancels(),
        requests_per_s=1000.0,
        charge_devices=True,
    )
    fill(gateway.store, "red/h2", 40)
    fill(gateway.store, "blue/maxcut", 3)
    waiting = {"session": "blue/maxcut", "state": "Queued", "position": 1, "reason": "behind red/h2"}
    device = {"kind": "device", "name": "lagos", "condition": "Ready", "qubits": 7, "interval_s": 3600.0,
              "calibration_epoch": 1, "known_error": 0.008, "true_error": 0.009,
              "sessions": [waiting]}  # fmt: skip
    for age_s in (100.0, 200.0):
        report(gateway, {**device, "clock_s": age_s, "calibration_age_s": age_s})
    report(
        gateway,
        {"kind": "session", "name": "red/h2", "state": "Running", "device": "lagos", "exact": -1.0,
         "limits": {"shots": 100_000, "qpuTime": "1h"}},
        {"kind": "session", "name": "blue/maxcut", "state": "Queued", "reason": "behind red/h2"},
        {"kind": "tenant", "name": "red", "weight": 2},
    )  # fmt: skip
    yield gateway
    gateway.stop()


@pytest.fixture
def page(browser: Browser, running: RunningGateway) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    made = context.new_page()
    faults: list[str] = []
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    made.goto(f"{running.address}/#token={TOKEN}")
    yield made
    context.close()
    assert not faults


def journal(running: RunningGateway, name: str, *bodies: bytes) -> None:
    """More iterations of a session, through the committer as a stream would bring them."""
    head = opened(running.store, name, epoch=None, writer="live")
    appends = [
        Append(head.id, head.lease_epoch, head.writer, head.length + index, body)
        for index, body in enumerate(bodies)
    ]
    assert running.call(running.gateway.committer.append(appends)) is None


def test_sessions_say_why_they_wait_and_change_as_it_happens(page: Page, running: RunningGateway) -> None:
    row = page.get_by_role("row").filter(has_text="blue/maxcut").first
    expect(row).to_contain_text("behind red/h2")
    expect(page.locator("#connection")).to_have_text("live")
    report(running, {"kind": "session", "name": "blue/maxcut", "state": "Running", "reason": ""})
    expect(row).to_contain_text("Running")
    report(running, {"kind": "session", "name": "green/new", "state": "Preparing", "reason": "starting"})
    expect(page.get_by_role("link", name="green/new")).to_be_visible()
    report(running, {"kind": "session", "name": "green/new", "state": "Failed", "reason": "no device"})


def test_a_session_converges_live(page: Page, running: RunningGateway) -> None:
    page.get_by_role("link", name="red/h2").first.click()
    expect(page.get_by_role("heading", name="red/h2")).to_be_focused()
    expect(page.get_by_role("img", name="Energy over evaluations")).to_be_visible()
    page.get_by_text("Last values as a table").click()
    table = page.get_by_role("region", name="Values")
    count = page.locator("dl.facts div").filter(has_text="Iterations").locator("dd")
    before = int(count.inner_text())
    journal(running, "red/h2", iteration(before, -0.98765, "perth"))
    expect(table).to_contain_text("−0.987650")
    expect(count).to_have_text(str(before + 1))
    expect(page.get_by_label("Devices", exact=True)).to_contain_text("perth")


def test_a_session_is_cancelled_from_the_page_after_a_question(page: Page, running: RunningGateway) -> None:
    page.evaluate("location.hash = '#/sessions/red/h2'")
    page.get_by_role("button", name="Cancel session").click()
    page.get_by_role("button", name="Keep it running").click()
    assert running.settings["canceller"].asked == []
    page.get_by_role("button", name="Cancel session").click()
    page.get_by_role("button", name="Cancel it").click()
    expect(page.locator("#announce")).to_contain_text("is being cancelled")
    assert running.settings["canceller"].asked == [("local", "red", "h2")]
    report(running, {"kind": "session", "name": "red/h2", "state": "Cancelled", "reason": "from the page"})
    expect(page.locator("main")).to_contain_text("Cancelled")
    expect(page.get_by_role("button", name="Cancel session")).to_be_hidden()
    report(running, {"kind": "session", "name": "red/h2", "state": "Running", "reason": ""})


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_every_view_passes_an_accessibility_check(
    browser: Browser, running: RunningGateway, view: str, scheme: Any, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{running.address}/#token={TOKEN}")
    page.evaluate(f"location.hash = '{view}'")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_timeout(300)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    # Nothing sticks out to the side.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_it_is_used_with_the_keyboard_alone(page: Page) -> None:
    expect(page.get_by_role("link", name="red/h2").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="lagos").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="lagos")).to_be_focused()


def test_it_asks_no_other_server_and_is_small(browser: Browser, running: RunningGateway) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{running.address}/#token={TOKEN}")
    for view in VIEWS:
        page.evaluate(f"location.hash = '{view}'")
        page.wait_for_timeout(100)
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(running.address).netloc}
    assert not any(TOKEN in url for url in asked)
    context.close()
    assert sum(path.stat().st_size for path in PAGE.rglob("*") if path.is_file()) <= 300_000


def test_without_a_token_it_asks_for_one(browser: Browser, running: RunningGateway) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{running.address}/")
    expect(page.get_by_role("heading", name="A token is needed")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("link", name="red/h2").first).to_be_visible()
    context.close()


def test_what_was_known_is_there_at_once_and_a_lost_connection_is_said(
    browser: Browser, tmp_path: Path
) -> None:
    gateway = RunningGateway(str(tmp_path / "gateway.db"), requests_per_s=1000.0)
    context = browser.new_context()
    try:
        fill(gateway.store, "red/h2", 5)
        page = context.new_page()
        page.goto(f"{gateway.address}/#token={TOKEN}")
        expect(page.get_by_role("link", name="red/h2")).to_be_visible()
        gateway.stop()
        expect(page.locator("#connection")).to_have_text("connection lost")
        page.evaluate("location.hash = '#/usage'")
        page.evaluate("location.hash = '#/'")
        expect(page.get_by_role("link", name="red/h2")).to_be_visible()
        gateway.start()
        report(gateway, {"kind": "session", "name": "red/h2", "state": "Completed"})
        expect(page.locator("#connection")).to_have_text("live", timeout=15_000)
        expect(page.get_by_role("row").filter(has_text="red/h2").first).to_contain_text("Completed")
    finally:
        context.close()
        gateway.stop()


def test_the_documents_of_the_page_name_nothing_outside() -> None:
    for path in PAGE.glob("*.*"):
        text = path.read_text()
        assert "https://" not in text, path.name
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), path.name
    assert json.dumps(sorted(path.name for path in (PAGE / "vendor").iterdir())) == json.dumps(
        ["uPlot.LICENSE", "uPlot.iife.min.js", "uPlot.min.css"]
    )
