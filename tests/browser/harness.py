"""JupyterLab in headless Chromium, for browser tests and for looking at a lesson.

    python -m tests.browser.harness notebooks/01_attention.ipynb --theme dark --width 900

opens a copy of the notebook in JupyterLab, runs all its cells, and saves screenshots of the whole
notebook, viewport by viewport, to build/screenshots/. Nothing in the checkout is altered, the
user's own Jupyter settings are neither read nor written, and the server listens on loopback only.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import axe_playwright_python
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
START_TIMEOUT_S = 90
CHROMIUM_FLAGS = (
    # The sandbox needs privileges that containers and network namespaces do not give.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PAGE_CONFIG = {
    "disabledExtensions": {
        # Both ask servers outside for news and packages.
        "@jupyterlab/apputils-extension:announcements": True,
        "@jupyterlab/extensionmanager-extension:plugin": True,
    }
}
# By default Lab lays out only the cells in sight, so heights and screenshots would be guesses.
TRACKER_SETTINGS = {"windowingMode": "none"}


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Headless Chromium. A process can hold only one Playwright, so share what this gives.

    Raises:
        RuntimeError: no Chromium is installed.
    """
    chromium = find_chromium()
    if chromium is None:
        raise RuntimeError("no Chromium found: install chromium or google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Lab:
    """A JupyterLab server, to be used with `with`; its notebooks open in `browser`.

    Args:
        browser: from `open_browser`.
        notebooks: folder that is copied for the session, `source/` included.

    Raises:
        RuntimeError: the server does not start.
    """

    def __init__(self, browser: Browser, notebooks: Path = ROOT / "notebooks") -> None:
        self._browser = browser
        self.notebooks = notebooks

    def __enter__(self) -> Lab:
        self._home = tempfile.TemporaryDirectory(prefix="zoo-lab-")
        home = Path(self._home.name)
        self.root = home / "course"
        ignore = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")
        shutil.copytree(self.notebooks, self.root / "notebooks", ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", self.root)  # jupytext reads its pairing there
        self._start_server(home)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.terminate()
        self._server.wait(timeout=30)
        self._home.cleanup()

    def _start_server(self, home: Path) -> None:
        config = home / "config"
        _write_json(config / "labconfig" / "page_config.json", PAGE_CONFIG)
        tracker = home / "settings" / "@jupyterlab" / "notebook-extension"
        _write_json(tracker / "tracker.jupyterlab-settings", TRACKER_SETTINGS)
        folders = {
            "JUPYTER_CONFIG_DIR": config,
            "JUPYTER_RUNTIME_DIR": home / "runtime",
            "JUPYTER_DATA_DIR": home / "data",
            "JUPYTERLAB_SETTINGS_DIR": home / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
            "IPYTHONDIR": home / "ipython",
            "ZOO_PROGRESS": home / "progress.json",
        }
        port = _free_port()
        self._token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser"]
        command += [
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            "--ServerApp.allow_root=True",
            f"--ServerApp.root_dir={self.root}",
            f"--IdentityProvider.token={self._token}",
            "--KernelManager.transport_encryption=auto",  # as in tools/start_lab.py
        ]
        self._log = home / "server.log"
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                command,
                env={**os.environ, **{name: str(path) for name, path in folders.items()}},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._api("GET", "/api/status")
                return
            except (urllib.error.URLError, ConnectionError):
                if self._server.poll() is not None or time.monotonic() > deadline:
                    self._server.kill()
                    raise RuntimeError(f"JupyterLab did not start:\n{self.server_log()}") from None
                time.sleep(0.2)

    def server_log(self) -> str:
        return self._log.read_text("utf8", errors="replace")

    def _api(self, method: str, path: str) -> Any:
        headers = {"Authorization": f"token {self._token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or "null")

    @contextmanager
    def open(
        self, notebook: str | Path, *, theme: str = "light", width: int = 1400, height: int = 1000
    ) -> Iterator[LabPage]:
        """Open a notebook with a kernel of its own; both end with the `with` block.

        Args:
            notebook: path below the checkout, such as "notebooks/01_attention.ipynb".
            theme: "light" or "dark".
            width, height: size of the window in CSS pixels.
        """
        path = Path(notebook).as_posix()
        if not (self.root / path).is_file():
            raise FileNotFoundError(f"{path} is not among the copied notebooks")
        context = self._browser.new_context(viewport={"width": width, "height": height})
        try:
            lab_page = LabPage(context.new_page(), path)
            lab_page.load(f"{self.url}/lab/tree/{path}?reset&token={self._token}")
            lab_page.set_theme(theme)
            yield lab_page
        finally:
            context.close()
            for session in self._api("GET", "/api/sessions"):
                self._api("DELETE", f"/api/sessions/{session['id']}")


class LabPage:
    """One notebook in JupyterLab.

    Attributes:
        page: the Playwright page.
        console_errors: what was written to the browser's console as an error.
        page_errors: uncaught JavaScript exceptions.
        outside_requests: addresses asked for that are not on this machine.
    """

    def __init__(self, page: Page, path: str) -> None:
        self.page = page
        self.path = path
        self.console_errors: list[str] = []
        self.page_errors: list[str] = []
        self.outside_requests: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        page.on("request", lambda request: self._on_address(request.url))
        page.on("websocket", lambda websocket: self._on_address(websocket.url))

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.console_errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _on_address(self, url: str) -> None:
        address = urlsplit(url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != "127.0.0.1":
            self.outside_requests.append(url)

    def problems(self) -> list[str]:
        """Everything that a lesson must not cause: errors, and requests that leave the machine."""
        return [
            *(f"console: {text}" for text in self.console_errors),
            *(f"page error: {text}" for text in self.page_errors),
            *(f"outside request: {url}" for url in self.outside_requests),
        ]

    def load(self, url: str) -> None:
        self.page.goto(url, wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        self._await(
            """async () => {
                const app = window.jupyterapp;
                await app.restored;
                if (!app.shell.leftCollapsed) await app.commands.execute(
                    'application:toggle-left-area');
                const context = app.shell.currentWidget.context;
                await context.ready;
                await context.sessionContext.ready;
                await context.sessionContext.session.kernel.info;
            }""",
            timeout_s=90,
        )

    def _await(self, script: str, argument: Any = None, *, timeout_s: float) -> Any:
        """Evaluate an async function. Playwright's own evaluate would wait for ever.

        Raises:
            TimeoutError: it did not end in time; the message holds any dialog that is open.
        """
        timed = f"""([argument, ms]) => Promise.race([
            ({script})(argument),
            new Promise(resolve => setTimeout(() => resolve('zoo-timeout'), ms)),
        ])"""
        result = self.page.evaluate(timed, [argument, timeout_s * 1000])
        if result == "zoo-timeout":
            dialogs = self.page.locator(".jp-Dialog-content").all_inner_texts()
            raise TimeoutError(f"JupyterLab did not answer in {timeout_s} s; dialogs: {dialogs}")
        return result

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one of JupyterLab's own commands, such as "notebook:run-all-cells"."""
        return self._await(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => null)",
            [command, arguments],
            timeout_s=60,
        )

    def set_theme(self, theme: str) -> None:
        """Switch to the "light" or "dark" theme and wait until it shows."""
        self.execute("apputils:change-theme", theme=THEMES[theme])
        is_light = "true" if theme == "light" else "false"
        self.page.wait_for_selector(f'body[data-jp-theme-light="{is_light}"]', state="attached")

    def run_all(self, timeout_s: float = 300) -> float:
        """Run all cells, wait for their outputs and widgets; return the seconds it took.

        Raises:
            AssertionError: a cell raised an error.
            playwright.sync_api.TimeoutError: the cells did not end in time.
        """
        start = time.perf_counter()
        self.page.evaluate(
            """() => {
                window.zooDone = false;
                window.jupyterapp.commands.execute('notebook:run-all-cells')
                    .finally(() => { window.zooDone = true; });
            }"""
        )
        self.page.wait_for_function("() => window.zooDone", timeout=timeout_s * 1000)
        seconds = time.perf_counter() - start
        errors = self.page.locator(".jp-Notebook [data-mime-type$='stderr'] .ansi-red-fg").all()
        assert not errors, f"a cell failed: {errors[0].locator('..').inner_text()[:500]}"
        self.wait_for_widgets()
        return seconds

    def wait_for_widgets(self, timeout_s: float = 30) -> None:
        """Wait until every course widget in the page has drawn itself once."""
        self.page.wait_for_function(
            """() => [...document.querySelectorAll('.zoo-widget')]
                .every(widget => widget.dataset.ready === '1')""",
            timeout=timeout_s * 1000,
        )

    def screenshot(self, name: str, folder: Path = SCREENSHOTS) -> Path:
        """Save what the window shows to build/screenshots/NAME.png."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def screenshots(self, prefix: str, folder: Path = SCREENSHOTS) -> list[Path]:
        """Save the whole notebook, one viewport after another."""
        scroller = self.page.locator(".jp-Notebook .jp-WindowedPanel-outer").first
        # A strip of overlap, so that no line is cut in both pictures.
        step = scroller.evaluate("e => e.clientHeight") - 40
        paths: list[Path] = []
        at_end = False
        while not at_end:
            scroller.evaluate("(e, top) => { e.scrollTop = top; }", step * len(paths))
            self.page.wait_for_timeout(150)
            paths.append(self.screenshot(f"{prefix}-{len(paths):02d}", folder))
            at_end = scroller.evaluate("e => e.scrollTop + e.clientHeight >= e.scrollHeight - 1")
        return paths

    def axe(self, selector: str = ".jp-Notebook") -> list[dict[str, Any]]:
        """Accessibility violations that axe-core finds below a selector.

        Returns:
            One entry per rule: id, impact, help, and `targets`, the offending elements.
        """
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.add_script_tag(path=AXE)
        result = self.page.evaluate("selector => window.axe.run(selector)", selector)
        return [
            {
                **{key: rule[key] for key in ("id", "impact", "help")},
                "targets": [node["html"][:200] for node in rule["nodes"]],
            }
            for rule in result["violations"]
        ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content), "utf8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run a notebook in JupyterLab and picture it.")
    parser.add_argument("notebook", help="such as notebooks/01_attention.ipynb")
    parser.add_argument("--theme", choices=THEMES, default="light")
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=SCREENSHOTS)
    parser.add_argument("--no-run", action="store_true", help="show the stored outputs instead")
    options = parser.parse_args(arguments)
    size = {"width": options.width, "height": options.height}
    with (
        open_browser() as browser,
        Lab(browser) as lab,
        lab.open(options.notebook, theme=options.theme, **size) as notebook,
    ):
        if not options.no_run:
            print(f"ran all cells in {notebook.run_all():.1f} s")
        prefix = f"{Path(options.notebook).stem}-{options.theme}-{options.width}"
        for path in notebook.screenshots(prefix, options.out):
            print(path)
        problems = notebook.problems()
    print("\n".join(problems) or "no console error, no page error, no outside request")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
