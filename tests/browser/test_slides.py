"""Slides in a real browser: nothing from outside, nothing that spills over, all by keyboard."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.harness import AXE
from tools.workshop import decks
from tools.workshop.__main__ import OUT

LESSONS = {"01": "01_attention", "12": "12_clip"}
# How much higher than its slide a slide's content may be, after shrinking, where it scrolls.
GROSS = 1.6
MEASURE = """() => {
    document.body.classList.add("measuring");
    const found = [...document.querySelectorAll(".content")].map((content) => ({
        text: content.innerText.slice(0, 80),
        ratio: content.scrollHeight / content.clientHeight,
        wide: content.scrollWidth > content.clientWidth + 1,
        scale: parseFloat(content.style.fontSize),
    }));
    document.body.classList.remove("measuring");
    return found;
}"""


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides of two lessons, made now; only reveal.js and MathJax were fetched before."""
    wheels = sorted((OUT / ".cache" / "assets").glob("*.whl"))
    if not wheels:
        missing = "the slides' assets are not there: call make workshop first"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("slides")
    list(decks.write_decks(decks.ROOT, folder, wheels, tuple(LESSONS)))
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def open_deck(browser: Browser, url: str, complaints: list[str], inside: str) -> Page:
    """A page of slides; what it asks for outside, and its errors, go into `complaints`."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    allowed = (inside, "data:", "blob:")
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(allowed) else complaints.append(f"asks {request.url}")
        ),
    )
    page.on("requestfailed", lambda request: complaints.append(f"lacks {request.url}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    page.goto(url)
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    return page


@pytest.mark.parametrize("slug", LESSONS.values())
def test_slides_fit_and_load_nothing_from_outside(browser: Browser, address: str, slug: str):
    complaints: list[str] = []
    page = open_deck(browser, f"{address}/{slug}.html", complaints, address)
    measured = page.evaluate(MEASURE)
    formulas = page.locator("mjx-container").count()
    broken = page.locator("mjx-merror, [data-mjx-error]").count()
    without_alt = page.locator("img:not([alt]), img[alt='']").count()
    page.close()
    assert complaints == []
    assert len(measured) > 40
    assert [slide for slide in measured if slide["ratio"] > GROSS or slide["wide"]] == []
    # Most slides must be right as they are cut: shrinking is for the few that were misjudged.
    shrunk = [slide for slide in measured if slide["scale"] < 0.85]
    assert len(shrunk) <= 0.05 * len(measured), shrunk
    assert [formulas > 10, broken, without_alt] == [True, 0, 0]


def test_space_passes_every_slide_and_arrows_go_by_section(browser: Browser, address: str) -> None:
    complaints: list[str] = []
    page = open_deck(browser, f"{address}/01_attention.html", complaints, address)
    total = page.evaluate("Reveal.getTotalSlides()")
    seen = set()
    for _ in range(3 * total):
        seen.add(page.evaluate("JSON.stringify(Reveal.getIndices(), ['h', 'v'])"))
        if page.evaluate("Reveal.isLastSlide()"):
            break
        page.keyboard.press("Space")
    assert len(seen) == total
    page.keyboard.press("Home")
    # On the first slide reveal.js forgets, a moment later, how far down each section was read.
    page.wait_for_function(
        "() => [...document.querySelectorAll('.stack')].every((s) => !(+s.dataset.previousIndexv))"
    )
    page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.getIndices().h") == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("Reveal.getIndices().v") == 1
    assert page.locator("section.present > section.present .content").is_visible()
    assert page.evaluate("Reveal.getSlideNotes() !== undefined")
    page.close()
    assert complaints == []


def test_slides_open_from_a_folder_too(browser: Browser, folder: Path) -> None:
    """From a USB stick, by a double click."""
    complaints: list[str] = []
    inside = folder.as_uri()
    page = open_deck(browser, f"{inside}/01_attention.html", complaints, inside)
    assert page.locator("h1").first.is_visible()
    page.goto(f"{inside}/index.html")
    assert page.locator("li a").count() == len(LESSONS)
    page.close()
    assert complaints == []


def test_axe_finds_nothing_serious_on_a_title_a_code_and_an_exercise_slide(
    browser: Browser, address: str
) -> None:
    page = open_deck(browser, f"{address}/01_attention.html", [], address)
    page.add_script_tag(path=AXE)
    exercise = page.evaluate(
        """() => Reveal.getIndices(document.querySelector('section[data-kind="exercise"]'))"""
    )
    found = []
    for h, v in ((0, 0), (1, 0), (exercise["h"], exercise["v"])):
        page.evaluate("([h, v]) => Reveal.slide(h, v)", [h, v])
        violations = page.evaluate("axe.run(document).then((result) => result.violations)")
        found += [
            (violation["id"], violation["nodes"][0]["html"][:120])
            for violation in violations
            if violation["impact"] in ("serious", "critical")
        ]
    page.close()
    assert found == []
