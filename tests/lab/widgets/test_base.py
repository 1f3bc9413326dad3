"""The widget base: how scripts are joined, and the static picture beside the live view."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import ipywidgets
import matplotlib
import numpy as np
import pytest
import traitlets
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from PIL import Image

from zoo_lessons.lab import widgets
from zoo_lessons.lab.widgets import base
from zoo_lessons.lab.widgets.base import AskingWidget, ZooWidget, figure_png, plot_text, png_bytes

FOLDER = Path(base.__file__).parent


class Line(ZooWidget):
    """A widget whose picture is a line in the current matplotlib style."""

    _script = "mask_explorer.js"
    level = traitlets.Int(2).tag(sync=True)

    def static_png(self) -> bytes:
        fig = Figure(figsize=(2, 1))
        fig.subplots().plot([0, self.level])
        return figure_png(fig)

    def static_text(self) -> str:
        return f"Line(level={self.level})"


def test_png_bytes_round_trips_through_a_decoder():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(png_bytes(rgb))).convert("RGB"))
    np.testing.assert_array_equal(decoded, rgb)


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_png_bytes_rejects_other_arrays(bad):
    with pytest.raises(ValueError, match="uint8 array"):
        png_bytes(bad)


def test_figure_png_is_deterministic_and_carries_no_metadata():
    def draw() -> bytes:
        fig = Figure(figsize=(2, 1))
        fig.subplots().plot([1, 3, 2])
        return figure_png(fig)

    assert draw() == draw()
    assert "Software" not in Image.open(io.BytesIO(draw())).info


def test_script_and_style_follow_the_shared_ones():
    widget = Line()
    assert widget._esm.index("function liveRegion") < widget._esm.rindex(
        "export default { render };"
    )
    assert ".zoo-widget" in widget._css


def test_mimebundle_has_view_picture_and_stable_text():
    first, second = Line(), Line()
    data, metadata = first._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert base64.b64decode(data["image/png"]) == first.static_png()
    assert data["text/plain"] == "Line(level=2)"
    assert metadata["image/png"]["alt"] == "Line(level=2)"
    assert second._repr_mimebundle_()[0]["image/png"] == data["image/png"]


def test_ipywidgets_7_does_not_hide_the_picture(monkeypatch):
    """Its `_ipython_display_` would come before `_repr_mimebundle_`: Colab has this version."""
    called = []
    monkeypatch.setattr(
        ipywidgets.Widget, "_ipython_display_", lambda self: called.append(self), raising=False
    )
    formatter = InteractiveShell.instance().display_formatter
    data, metadata = formatter.format(Line())
    assert not called
    assert data["text/plain"] == metadata["image/png"]["alt"] == "Line(level=2)"
    formatter.format(ipywidgets.Label())
    assert len(called) == 1, "this is not how IPython asks"


def test_a_lesson_style_does_not_change_the_picture():
    plain = Line()._repr_mimebundle_()[0]["image/png"]
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 20}):
        assert Line()._repr_mimebundle_()[0]["image/png"] == plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$5$ ␣é", r"\$5\$ ␣é"), ("\u4e2d \U0001f600", r"\u4e2d 😀")],
)
def test_plot_text_is_what_matplotlib_can_draw(text, expected, recwarn):
    assert plot_text(text) == expected
    fig = Figure(figsize=(3, 1))
    fig.text(0, 0.5, plot_text(text))
    figure_png(fig)
    assert [str(warning.message) for warning in recwarn] == []


class Doubler(AskingWidget):
    """Doubles a number that its script sends."""

    _script = "mask_explorer.js"
    result = traitlets.Int(0)

    def _answer(self, content: dict) -> None:
        self.result = 2 * content["number"]


def test_questions_are_answered_and_errors_become_one_sentence():
    widget, sent = Doubler(), []
    widget.send = sent.append
    for number in (4, "x", None):
        widget._handle_custom_msg({"kind": "any", "number": number, "request": "r"}, [])
    widget._handle_custom_msg({"kind": "no question"}, [])
    assert widget.result == 8
    assert [answer["error"] for answer in sent] == [
        "",
        "TraitError: The 'result' trait of a Doubler instance expected an int, not the str 'xx'.",
        "TypeError: unsupported operand type(s) for *: 'int' and 'NoneType'",
    ]
    assert {answer["request"] for answer in sent} == {"r"}


def test_color_maps_are_matplotlibs():
    source = (FOLDER / "common.js").read_text(encoding="utf-8")
    table = source.split("const COLORMAPS = {")[1].split("\n};")[0]
    maps = dict(re.findall(r"(\w+): \[(.*?)\]", table, flags=re.DOTALL))
    assert set(maps) == {"cividis", "viridis", "greys", "coolwarm"}
    for name, body in maps.items():
        anchors = re.findall(r"#[0-9a-f]{6}", body)
        rgb = np.array([[int(a[i : i + 2], 16) for i in (1, 3, 5)] for a in anchors])
        place = np.linspace(0, len(anchors) - 1, 256)
        ours = np.stack([np.interp(place, range(len(anchors)), rgb[:, c]) for c in range(3)], 1)
        theirs = matplotlib.colormaps["Greys" if name == "greys" else name](np.arange(256))
        # cividis has a kink between two anchors; 11 of 255 there is below what an eye can tell.
        assert np.abs(ours - theirs[:, :3] * 255).max() < 12, name


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")) + sorted(FOLDER.glob("*.css")))
def test_scripts_and_styles_reach_no_network(path):
    text = path.read_text(encoding="utf-8")
    for word in ("http:", "https:", "import ", "import(", "@import", "fetch(", "url("):
        assert word not in text, f"{path.name} contains {word!r}"


def test_every_exported_name_can_be_imported():
    for name in widgets.__all__:
        assert callable(getattr(widgets, name)), name
    with pytest.raises(AttributeError, match="nothing_here"):
        widgets.nothing_here  # noqa: B018
