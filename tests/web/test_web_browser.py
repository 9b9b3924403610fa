"""The pages in headless Chromium, as people use them: by eye, by keyboard, light and dark, wide and narrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.serving import Served
from tests.support.web_scene import MPT, TOKEN

pytestmark = pytest.mark.xdist_group("web")
PAGES = ("/", f"/assets/{TOKEN}", f"/holders/{MPT}", "/owners/bob", "/gas", "/nowhere")
DARK = ("/assets/card-2", f"/holders/{MPT}")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


class Seen:
    """A tab, with all that went wrong in it: messages of the console, errors, requests to elsewhere."""

    def __init__(self, browser: Any, base: str, **options: Any) -> None:
        self.context = browser.new_context(base_url=base, viewport=options.pop("viewport", WIDE), **options)
        self.page, self.faults = self.context.new_page(), list[str]()
        self.page.set_default_timeout(120_000)
        self.page.on("console", lambda told: self.faults.append(f"{told.type}: {told.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.faults.append("a dialog") or dialog.dismiss())
        self.page.on("request", lambda asked: asked.url.startswith(base) or self.faults.append(asked.url))


@pytest.fixture
def seen(browser: Any, served: Served) -> Iterator[Any]:
    """Opens tabs, closes them, and looks at what went wrong; a page that is an error says so in the console."""
    opened: list[Seen] = []

    def open_tab(**options: Any) -> Seen:
        opened.append(Seen(browser, served.url, **options))
        return opened[-1]

    yield open_tab
    for one in opened:
        one.context.close()
        assert not [fault for fault in one.faults if "status of 40" not in fault]


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", NARROW)])
def test_nothing_is_in_anyones_way(seen: Any, scheme: str, viewport: dict[str, int]) -> None:
    """axe-core finds no fault (names, order, contrast of 4.5 to 1, …), and no page is wider than the screen."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = seen(color_scheme=scheme, viewport=viewport).page
    for path in PAGES if scheme == "light" else DARK:
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found = axe.run(page)
        assert found.violations_count == 0, f"{path} {scheme}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is too wide"


def test_by_keyboard_alone(seen: Any) -> None:
    """Skip link, then the search; a row of the story opens by Enter and shows where it came from."""
    page = seen().page
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "q"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "who goes by keyboard must see where he is"
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/assets/{TOKEN}")
    rows = page.locator(".story details")
    assert rows.count() == 8
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.story summary')"):
            break
    assert not rows.first.evaluate("row => row.open")
    page.keyboard.press("Enter")
    assert rows.first.evaluate("row => row.open")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')").startswith("/owners/")
    assert "assets.activity.v1 [0] @ " in rows.first.inner_text()


def test_everything_that_acts_is_reached_by_tab(seen: Any) -> None:
    page = seen().page
    page.goto("/gas")
    reached = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"key", "by", "period", "from", "to", "owner", "verified", "Show", "Dark"} <= reached


def ground(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_light_and_dark(seen: Any) -> None:
    """The system's choice, until the button is pressed; what was pressed stays."""
    light, dark = seen(color_scheme="light").page, seen(color_scheme="dark").page
    for page in (light, dark):
        page.goto("/")
    assert (ground(light), ground(dark)) == ("rgb(251, 252, 253)", "rgb(17, 22, 28)")
    dark.get_by_role("button", name="Change between light and dark").click()
    assert ground(dark) == ground(light)
    dark.goto("/gas")
    assert ground(dark) == ground(light)
    assert dark.locator(".theme").inner_text() == "Dark"


def test_from_the_graph_to_the_block(seen: Any) -> None:
    page = seen().page
    page.goto(f"/assets/{TOKEN}")
    assert page.locator("svg .arc").count() == 7
    page.get_by_role("link", name="3", exact=True).click()
    page.wait_for_url("**#row-*")
    row = page.locator(":target details")
    assert row.evaluate("row => row.open"), "an address of a row opens it"
    page.locator(":target a[href^='/transactions/']").first.click()
    page.wait_for_url("**/transactions/*")
    assert "Block hash" in page.locator("main").inner_text()


def test_gas_with_a_key(seen: Any, served: Served) -> None:
    """The key goes in a header: neither in an address nor in the history, and stays in the tab alone."""
    tab = seen()
    page, asked = tab.page, list[Any]()
    page.on("request", lambda one: asked.append(one))
    page.goto("/gas")
    page.fill("#key", "tbk_wrong")
    page.click("button.go")
    assert "unknown or revoked" in page.get_by_role("alert").inner_text()
    page.fill("#key", served.keys["gas"])
    page.select_option("#period", "all")
    page.click("button.go")
    page.wait_for_selector("#report table")
    cells = page.locator("#report tbody tr").first.locator("th, td").all_inner_texts()
    assert cells == ["bob", "1", "12", "0", "12", "100.00 %"]
    assert page.locator("#report svg").count() == 2
    assert not [one.url for one in asked if served.keys["gas"] in one.url]
    assert asked[-1].headers["authorization"] == f"Bearer {served.keys['gas']}"
    page.reload()
    assert page.input_value("#key") == served.keys["gas"]
    assert page.evaluate("localStorage.length") == 0
    page.click(".forget")
    assert page.input_value("#key") == "" and page.evaluate("sessionStorage.length") == 0


def test_without_scripts(seen: Any, served: Served) -> None:
    page = seen(java_script_enabled=False).page
    page.goto("/gas")
    page.fill("#key", served.keys["gas"])
    page.select_option("#period", "all")
    page.select_option("#by", "day")
    page.click("button.go")
    assert "2026-01-05" in page.locator("#report").inner_text() and served.keys["gas"] not in page.url
    page.goto("/")
    page.fill("#q", "art-1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/assets/art-1")
    assert "750 of 1000 units" in page.locator("main").inner_text()


def test_what_a_user_wrote_never_runs(seen: Any) -> None:
    page = seen().page
    for path in (
        "/assets/evil-1",
        "/owners/alice",
        "/holders/evil-1",
        "/search?q=<img src=x onerror=window.hacked=1>",
    ):
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("window.hacked") is None
        assert page.locator("main script, main img, main iframe").count() == 0


def test_screens_can_be_looked_at(seen: Any, tmp_path: Path) -> None:
    """Charts have a size on the screen, and their figures stand in a table beneath."""
    page = seen().page
    page.goto(f"/holders/{MPT}")
    box = page.locator("svg.pygal-chart").bounding_box()
    assert box["width"] > 400 and box["height"] > 100
    page.locator(".numbers summary").click()
    assert page.locator(".numbers tbody tr").first.locator("td").first.inner_text() == "4"
    page.screenshot(path=tmp_path / "holders.png", full_page=True)
    assert (tmp_path / "holders.png").stat().st_size > 10_000
