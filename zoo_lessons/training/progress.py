"""The progress bar of a training run: steps done, loss, time left.

In a terminal it is tqdm's. In a notebook it is a widget that is shown alone, without the text that
widgets usually bring along, and closed at the end: nothing is written to stderr, and no output is
left that would differ from one run to the next. Output that goes to a file or a pipe gets no bar.
"""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
SECONDS_BETWEEN_UPDATES = 0.1


def progress_bar(total: int, done: int = 0, *, enabled: bool = True) -> _Silent:
    """A progress bar that suits where the code runs; use it in a `with` statement.

    Args:
        total: steps in the whole run.
        done: steps that were made before, by a run that is now resumed.
        enabled: False gives a bar that shows nothing.
    """
    if not enabled:
        return _Silent()
    return _NotebookBar(total, done) if in_notebook() else _TerminalBar(total, done)


def in_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    return hasattr(sys.modules["IPython"].get_ipython(), "kernel")


class _Silent:
    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def step(self, loss: float) -> None:
        """One more step is done, and this was its loss."""

    def close(self) -> None:
        """Take the bar away."""


class _TerminalBar(_Silent):
    def __init__(self, total: int, done: int) -> None:
        # disable=None: no bar unless stderr is a terminal.
        self._bar = tqdm(total=total, initial=done, unit="step", disable=None, leave=False)

    def step(self, loss: float) -> None:
        self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()


class _NotebookBar(_Silent):
    def __init__(self, total: int, done: int) -> None:
        import ipywidgets
        from IPython.display import display

        self._total, self._done, self._done_before = total, done, done
        self._started = self._updated = time.monotonic()
        self._bar = ipywidgets.IntProgress(value=done, max=total)
        self._label = ipywidgets.Label(f"{done}/{total}")
        self._box = ipywidgets.HBox([self._bar, self._label])
        view = {"model_id": self._box.model_id, "version_major": 2, "version_minor": 0}
        display({WIDGET_VIEW: view}, raw=True)

    def step(self, loss: float) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._updated < SECONDS_BETWEEN_UPDATES:
            return
        self._updated = now
        per_step = (now - self._started) / (self._done - self._done_before)
        left = tqdm.format_interval(per_step * (self._total - self._done))
        self._bar.value = self._done
        self._label.value = f"{self._done}/{self._total}, loss {loss:.4f}, {left} left"

    def close(self) -> None:
        for widget in (self._box, self._bar, self._label):
            widget.close()
