"""The built website in Chromium: from a folder and from a server, in both themes, on a phone."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.harness import AXE
from tools.website.build import EXTERNAL_LINKS, SITE

DESK, PHONE = (1400, 1000), (390, 844)
TIMEOUT_MS = 60_000  # a page draws in a second or two, but CI runs two workers on two cores
expect.set_options(timeout=TIMEOUT_MS)
LESSONS = sorted(path.name for path in SITE.glob("notebooks/[0-9]*.html"))
# One page of each kind; the lessons' own tests come on top.
KINDS = (
    "index.html",
    "README.html",
    "notebooks/glossary.html",
    "notebooks/solutions/01_attention.html",
    "api/layers.html",
    "search.html",
)


@pytest.fixture(scope="session")
def site() -> Path:
    if not (SITE / EXTERNAL_LINKS).is_file():
        missing = "the website is not built: run make site"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return SITE


class SitePage:
    """A page of the site. `problems`: errors in the console, and requests that leave the site."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("console", lambda m: m.type == "error" and self.problems.append(m.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._on_request(request.url))

    def _on_request(self, url: str) -> None:
        address = urlsplit(url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != "127.0.0.1":
            self.problems.append(f"asks {url}")

    def open(self, address: str) -> None:
        # Our own scripts have run by then; MathJax, which is large, may go on.
        self.page.goto(address, wait_until="domcontentloaded", timeout=TIMEOUT_MS)

    def draw_widgets(self) -> int:
        """Bring every widget into sight, wait until it is drawn; return how many there are."""
        places = self.page.locator(".site-widget")
        for place in places.all():
            place.scroll_into_view_if_needed()
            expect(place.locator(".zoo-widget[data-ready='1']")).to_be_visible(timeout=TIMEOUT_MS)
            expect(place.locator(".site-widget-still")).to_be_hidden()
        return places.count()

    def scrolls_sideways(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth > innerWidth")


Open = Callable[..., SitePage]


@pytest.fixture
def open_page(browser: Browser, site: Path) -> Iterator[Open]:
    """Open a page from the folder, or with `base` from a server."""
    with ExitStack() as stack:

        def opened(
            path: str,
            size: tuple[int, int] = DESK,
            theme: str = "light",
            base: str | None = None,
        ) -> SitePage:
            viewport = {"width": size[0], "height": size[1]}
            context = browser.new_context(viewport=viewport, color_scheme=theme)
            stack.callback(context.close)
            page = SitePage(context.new_page())
            page.open(f"{base or site.as_uri()}/{path}")
            return page

        yield opened


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder on a web server on loopback; gives its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("path", KINDS)
def test_pages_ask_nobody_and_fit_a_phone(open_page: Open, path: str) -> None:
    shown = open_page(path, PHONE)
    shown.draw_widgets()
    assert not shown.scrolls_sideways()
    assert shown.problems == []


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_widget_of_a_lesson_is_alive_on_a_phone(open_page: Open, lesson: str) -> None:
    shown = open_page(f"notebooks/{lesson}", PHONE)
    assert shown.draw_widgets() >= 1
    assert not shown.scrolls_sideways()
    assert shown.problems == []


def test_a_widget_works_by_keyboard(open_page: Open) -> None:
    page = open_page("notebooks/01_attention.html").page
    widget = page.locator(".site-widget[data-widget='softmax_playground']")
    widget.scroll_into_view_if_needed()
    slider = widget.locator("input[type=range]").first
    slider.focus()
    canvases = "(el) => [...el.querySelectorAll('canvas')].map((c) => c.toDataURL())"
    value, drawn = slider.input_value(), widget.evaluate(canvases)
    page.keyboard.press("ArrowRight")
    assert slider.input_value() != value
    page.wait_for_timeout(200)
    assert widget.evaluate(canvases) != drawn


def test_a_question_to_python_is_answered_with_what_to_do(open_page: Open) -> None:
    page = open_page("notebooks/00_start_here.html").page
    widget = page.locator(".site-widget[data-widget='attention_explorer']")
    widget.scroll_into_view_if_needed()
    widget.locator("input[type=text]").fill("The dog sat")
    page.keyboard.press("Enter")
    expect(widget.locator("[role=alert]")).to_contain_text("open the lesson as a notebook")


def test_a_quiz_answers(open_page: Open) -> None:
    page = open_page("notebooks/01_attention.html").page
    quiz = page.locator(".site-widget[data-widget='quiz']")
    quiz.scroll_into_view_if_needed()
    quiz.locator("input[type=radio]").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(quiz.locator(".zoo-quiz-feedback").first).not_to_be_empty()


def test_the_zoo_map_leads_to_lessons(open_page: Open) -> None:
    page = open_page("index.html").page
    page.get_by_role("button", name="Lesson 03: Positional encodings").click()
    page.get_by_role("link", name="Open lesson 03").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Positional encodings")


def test_hints_open(open_page: Open) -> None:
    page = open_page("notebooks/01_attention.html").page
    hint = page.locator("details", has_text="Hint 1").first
    text = hint.locator("p").first
    expect(text).to_be_hidden()
    hint.locator("summary").press("Enter")
    expect(text).to_be_visible()


@pytest.mark.parametrize("where", ["folder", "server"])
def test_search_finds_softmax(open_page: Open, site: Path, where: str) -> None:
    with ExitStack() as stack:
        base = stack.enter_context(served(site)) if where == "server" else None
        shown = open_page("index.html", base=base)
        shown.page.get_by_role("textbox", name="Search").fill("softmax")
        shown.page.keyboard.press("Enter")
        results = shown.page.locator("#search-results li a")
        expect(results.filter(has_text="01 · Attention").first).to_be_visible()
        shown.page.close()


def test_formulas_are_drawn(open_page: Open) -> None:
    shown = open_page("notebooks/01_attention.html")
    formula = shown.page.locator(".math mjx-container svg").first
    formula.scroll_into_view_if_needed()
    expect(formula).to_be_visible()
    assert shown.page.locator("mjx-merror").count() == 0
    assert shown.problems == []


def test_the_theme_reaches_the_widgets(open_page: Open) -> None:
    page = open_page("notebooks/01_attention.html").page
    widget = page.locator(".site-widget[data-widget='softmax_playground']")
    widget.scroll_into_view_if_needed()
    expect(widget.locator(".zoo-widget[data-ready='1']")).to_be_visible()
    look = """(el) => [getComputedStyle(el.querySelector('.zoo-widget')).backgroundColor,
        el.querySelector('canvas').toDataURL()]"""
    looks = {}
    for _ in range(3):  # the button goes through light, dark and what the system says
        page.locator(".theme-toggle:visible").first.click()
        page.wait_for_timeout(200)
        looks[page.evaluate("document.body.dataset.theme")] = widget.evaluate(look)
    assert looks["light"][0] == "rgb(255, 255, 255)"
    assert looks["dark"][0] != looks["light"][0] and looks["dark"][1] != looks["light"][1]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["index.html", "notebooks/01_attention.html"])
def test_pages_are_accessible(open_page: Open, path: str, theme: str) -> None:
    shown = open_page(path, theme=theme)
    shown.draw_widgets()
    shown.page.evaluate(AXE.read_text("utf8"))
    result = shown.page.evaluate("axe.run(document)")
    serious = [
        f"{rule['id']}: {node['html'][:120]} ({node['failureSummary']})"
        for rule in result["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert serious == []
