"""A page that holds one widget and a stand-in for the kernel, to drive widgets without Jupyter.

The page runs the widget's real script. Its model passes changes and messages to the real Python
object and brings back what that object answers, as a kernel would. Requests to anything but the
page itself are recorded and refused.
"""

from __future__ import annotations

import base64
import functools
import re
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Route

from tests.browser.harness import AXE
from zoo_lessons.lab.widgets import base
from zoo_lessons.lab.widgets.base import ZooWidget

COMMON_STYLE = Path(base.__file__).with_name("common.css")

_ADDRESS = "http://widget.test/"
# Stands in for the front end's model: Backbone's get/set/on/off/save_changes and messages.
_MODEL = """
const unpack = (value) => {
  if (Array.isArray(value)) return value.map(unpack);
  if (value && typeof value === "object") {
    if ("__bytes__" in value) {
      return new DataView(Uint8Array.from(atob(value.__bytes__), (c) => c.charCodeAt(0)).buffer);
    }
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, unpack(v)]));
  }
  return value;
};
class Model {
  constructor(state) {
    this.state = unpack(state);
    this.handlers = {};
    this.changed = {};
    this.waiting = 0;
  }
  get(name) { return this.state[name]; }
  set(name, value) {
    if (this.state[name] === value) return;
    this.state[name] = value;
    this.changed[name] = value;
    this.emit("change:" + name);
  }
  on(event, fn) { (this.handlers[event] ??= []).push(fn); }
  off(event, fn) { this.handlers[event] = (this.handlers[event] || []).filter((f) => f !== fn); }
  emit(event, ...values) { for (const fn of [...(this.handlers[event] || [])]) fn(...values); }
  listeners() { return Object.values(this.handlers).reduce((n, fns) => n + fns.length, 0); }
  async save_changes() {
    const changed = this.changed;
    this.changed = {};
    await this.tell({ state: changed });
  }
  send(content) { return this.tell({ content }); }
  async tell(message) {
    this.waiting += 1;
    this.receive(await window.kernel(message));
    this.waiting -= 1;
  }
  receive({ state, messages }) {
    const next = unpack(state);
    Object.assign(this.state, next);
    for (const name of Object.keys(next)) this.emit("change:" + name);
    for (const content of messages) this.emit("msg:custom", content, []);
  }
}
window.mountWidget = async (state, esm) => {
  const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
  window.model = new Model(state);
  const el = document.getElementById("widget");
  window.disposeWidget = await module.default.render({ model: window.model, el });
};
window.keysThatEscape = [];
document.addEventListener("keydown", (event) => window.keysThatEscape.push(event.key));
"""


@functools.cache
def theme_css(theme: str) -> str:
    """The CSS variables of JupyterLab's own "light" or "dark" theme."""
    from jupyterlab.commands import get_app_dir

    folder = Path(get_app_dir()) / "themes" / "@jupyterlab" / f"theme-{theme}-extension"
    css = (folder / "index.css").read_text(encoding="utf-8")
    variables = re.findall(r"(--(?:jp|md)-[\w-]+):([^;{}]+)[;}]", css)
    kept = [f"{name}:{value}" for name, value in variables if "url(" not in value]
    return ":root{" + ";".join(kept) + "}"


class WidgetPage:
    """One mounted widget. `page` is Playwright's page, `root` the widget's outermost element."""

    def __init__(self, page: Page, widget: ZooWidget) -> None:
        self.page, self.widget = page, widget
        self.root = page.locator(".zoo-widget")
        self.problems: list[str] = []  # console errors, page errors
        self.requests: list[str] = []  # requests that tried to leave
        self._messages: list[dict] = []
        self._changed: set[str] = set()

    def set(self, **traits: Any) -> None:
        """Change traits in Python, as a cell would, and bring the change to the page."""
        for name, value in traits.items():
            setattr(self.widget, name, value)
        self.push()

    def push(self) -> None:
        """Bring to the page what the Python object changed or sent since last time."""
        self.page.evaluate("(answer) => model.receive(answer)", self._answer())

    def wait_until_saved(self) -> None:
        """Wait until the widget's delayed save has reached Python."""
        self.page.wait_for_function("Object.keys(model.changed).length === 0 && !model.waiting")

    def theme(self, theme: str) -> None:
        """Switch the page to JupyterLab's light or dark theme, as its settings menu does."""
        self.page.evaluate(
            """([css, light]) => {
                document.getElementById("theme").textContent = css;
                document.body.dataset.jpThemeLight = light;
            }""",
            [theme_css(theme), str(theme == "light").lower()],
        )
        self.frame()

    def frame(self) -> None:
        """Wait until what is drawn is on the screen."""
        self.page.evaluate("new Promise((r) => requestAnimationFrame(() => setTimeout(r)))")

    def readout(self) -> str:
        return self.root.locator(".zoo-live").inner_text()

    def pixel(self, selector: str, x: float, y: float) -> list[int]:
        """RGBA of a canvas at (x, y), given in shares of its width and height."""
        return self.page.evaluate(
            """([selector, x, y]) => {
                const c = document.querySelector(selector);
                const at = [Math.floor(x * c.width), Math.floor(y * c.height)];
                return [...c.getContext("2d").getImageData(...at, 1, 1).data];
            }""",
            [selector, x, y],
        )

    def accessibility_violations(self) -> list[str]:
        """What axe-core finds on the page, one line per rule and element."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text("utf8"))
        result = self.page.evaluate("axe.run(document)")
        return [
            f"{rule['id']}: {node['html'][:160]} ({node['failureSummary']})"
            for rule in result["violations"]
            for node in rule["nodes"]
        ]

    def layout_problems(self) -> list[str]:
        """What scrolls sideways, and whether another widget's style would move this one."""
        problems = []
        if not self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
            problems.append("the page scrolls sideways")
        if not self.root.evaluate("(root) => root.scrollWidth <= root.clientWidth"):
            problems.append("the widget scrolls sideways")
        places = """(root) => [...root.querySelectorAll("*")]
            .map((part) => Object.values(part.getBoundingClientRect().toJSON()))"""
        before = self.root.evaluate(places)
        self.page.add_style_tag(content=COMMON_STYLE.read_text("utf8"))
        if self.root.evaluate(places) != before:
            problems.append("another widget's style moves this one")
        return problems

    def keys_that_escape(self, *keys: str) -> list[str]:
        """Press the keys on every control; return those that reached the page around the widget."""
        controls = ":is(input, select, button, [tabindex]):not([tabindex='-1'], [disabled])"
        for stop in self.page.locator(f".zoo-widget {controls}").all():
            stop.focus()
            for key in keys:
                stop.press(key)
        return self.page.evaluate("keysThatEscape")

    def listeners_left(self) -> int:
        """Remove the widget; return how many listeners stay on its model."""
        self.page.evaluate("disposeWidget()")
        return self.page.evaluate("model.listeners()")

    def _answer(self) -> dict:
        names, self._changed = self._changed, set()
        messages, self._messages = self._messages, []
        state = self.widget.get_state(sorted(names)) if names else {}
        return {"state": _packed(state), "messages": messages}

    def _kernel(self, message: dict) -> dict:
        if "state" in message:
            self.widget.set_state(message["state"])
            self._changed -= {
                name
                for name, value in message["state"].items()
                if getattr(self.widget, name) == value
            }
        else:
            self.widget._handle_custom_msg(message["content"], [])
        return self._answer()


# What all canvases of a widget show, as one value to compare.
PICTURES = "(canvases) => canvases.map((canvas) => canvas.toDataURL())"


def settle(shown: WidgetPage) -> None:
    """Wait until the widget has drawn and its kernel has answered."""
    shown.frame()
    shown.wait_until_saved()


def assert_well_behaved(shown: WidgetPage) -> None:
    """What holds for every widget that draws: it is accessible, fits its window, keeps its keys,
    draws each theme in its own way and the same way again, asks nobody, and leaves nothing behind.
    """
    assert shown.accessibility_violations() == []
    assert shown.layout_problems() == []
    assert shown.keys_that_escape("x", "ArrowRight") == []
    settle(shown)
    drawn = []
    for name in ("light", "dark", "light"):
        shown.theme(name)
        drawn.append(shown.root.locator("canvas").evaluate_all(PICTURES))
    assert drawn[0] == drawn[2] != drawn[1]
    assert shown.listeners_left() == 0
    assert (shown.problems, shown.requests) == ([], [])


def slider_latency(
    page: Page, label: str, *, moves: int = 40, root: str = ".zoo-widget"
) -> dict[str, float]:
    """Milliseconds from a slider's input event until its frame is on the screen.

    Args:
        page: any page with a course widget, in JupyterLab or not.
        label: how the slider's label starts.
        moves: how often to move it.
        root: selector of the widget.
    """
    times = page.evaluate(
        """async ([root, label, moves]) => {
            const input = [...document.querySelectorAll(root + " label")]
                .find((element) => element.textContent.startsWith(label))
                .querySelector("input[type=range]");
            const low = Number(input.min), high = Number(input.max);
            const times = [];
            for (let i = 0; i < moves; i++) {
                await new Promise((r) => setTimeout(r, 30));
                input.value = low + ((i + 1) % (high - low + 1));
                const start = performance.now();
                input.dispatchEvent(new Event("input", { bubbles: true }));
                // A task after the frame callback runs once that frame has been drawn.
                await new Promise((r) => requestAnimationFrame(() => setTimeout(r)));
                times.push(performance.now() - start);
            }
            return times;
        }""",
        [root, label, moves],
    )
    rounded = [round(value, 1) for value in sorted(times)]
    p95 = statistics.quantiles(rounded, n=20)[18]
    return {"median": statistics.median(rounded), "p95": round(p95, 1), "most": rounded[-1]}


def _packed(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"__bytes__": base64.b64encode(value).decode("ascii")}
    if isinstance(value, dict):
        return {key: _packed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(item) for item in value]
    return value


@contextmanager
def open_widget(
    browser: Browser,
    widget: ZooWidget,
    *,
    theme: str = "light",
    width: int = 1200,
    height: int = 900,
) -> Iterator[WidgetPage]:
    """Mount a widget in a page of its own and wait for its first draw."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    opened = WidgetPage(page, widget)
    page_html = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Widget</title>"
        "<link rel='icon' href='data:,'><style id='theme'></style>"
        "<style>body{margin:0;padding:16px;background:var(--jp-layout-color0,#fff);"
        "font-family:sans-serif} h1{position:absolute;clip-path:inset(50%)}</style>"
        f"<style>{widget._css}</style></head><body>"
        "<main><h1>Widget</h1><div id='widget'></div></main>"
        f"<script>{_MODEL}</script></body></html>"
    )

    def route(request_route: Route) -> None:
        url = request_route.request.url
        if url == _ADDRESS:
            request_route.fulfill(body=page_html, content_type="text/html")
        else:
            opened.requests.append(url)
            request_route.abort()

    page.route(re.compile(r"^(?!data:|blob:)"), route)
    page.on("console", lambda m: opened.problems.append(m.text) if m.type in _BAD_CONSOLE else None)
    page.on("pageerror", lambda error: opened.problems.append(str(error)))
    page.expose_function("kernel", opened._kernel)

    names = [name for name in widget.keys if not name.startswith(("_model", "_view", "_dom"))]
    shown = [name for name in names if name not in ("_esm", "_css", "layout", "tabbable")]
    widget.observe(lambda change: opened._changed.add(change.name), names=shown)
    widget.send = lambda content, buffers=None: opened._messages.append(content)
    try:
        page.goto(_ADDRESS)
        opened.theme(theme)
        state = _packed(widget.get_state(shown))
        page.evaluate("([state, esm]) => mountWidget(state, esm)", [state, widget._esm])
        page.wait_for_selector(".zoo-widget[data-ready='1']", timeout=20_000)
        opened.frame()
        yield opened
    finally:
        del widget.send
        context.close()


_BAD_CONSOLE = ("error", "warning")
