"""What every course widget shares: how its script is put together, and its picture without Jupyter.

A widget is drawn in JavaScript (anywidget, inline, no network). Where no kernel answers, as on
GitHub, nbviewer or an untrusted notebook, the same output carries a static PNG and one line of
text, so a reader always sees a figure.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOLDER = Path(__file__).parent
_DPI = 100


def png_bytes(rgb: np.ndarray) -> bytes:
    """Encode an image as PNG without any metadata, so that equal pixels give equal bytes.

    Args:
        rgb: uint8 array (height, width, 3).

    Raises:
        ValueError: the array has another shape or dtype.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(
            f"png_bytes needs a uint8 array (height, width, 3), got {rgb.dtype} {rgb.shape}"
        )
    height, width, _ = rgb.shape
    rows = b"".join(b"\0" + np.ascontiguousarray(row).tobytes() for row in rgb)

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def figure_png(fig: Figure) -> bytes:
    """Render a matplotlib figure at the course's fixed dpi as a small PNG without metadata.

    256 colours are enough for these pictures and cut their size to less than half.

    Build the figure with `matplotlib.figure.Figure(...)`, not with pyplot, so that nothing stays
    open and the lesson's own figures are not disturbed.
    """
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.info.clear()
    small = io.BytesIO()
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


class StaticFallback:
    """Mixin that puts a static PNG and a stable line of text beside the live widget view.

    Subclasses implement `static_png` and `static_text`. Both depend on the widget's data only:
    same data, same bytes.
    """

    # ipywidgets 7, as on Colab, has a method of this name, which shows the live view alone.
    _ipython_display_ = None

    def static_png(self) -> bytes:
        """A PNG of the widget's current state, readable without the live widget."""
        raise NotImplementedError(f"{type(self).__name__} must implement static_png()")

    def static_text(self) -> str:
        """One line that says what the widget shows. No addresses or ids: notebooks store it."""
        raise NotImplementedError(f"{type(self).__name__} must implement static_text()")

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        # The lesson's own plot style must not leak into the picture.
        from matplotlib import style

        with style.context("default"):
            image = self.static_png()
        text = self.static_text()
        data = {**data, "text/plain": text, "image/png": base64.b64encode(image).decode("ascii")}
        return data, {**metadata, "image/png": {"alt": text}}


class ZooWidget(StaticFallback, anywidget.AnyWidget):
    """Base of all course widgets.

    A subclass names its script, and its style if it has one, in this folder:

        class MaskExplorer(ZooWidget):
            _script = "mask_explorer.js"
            _style = "mask_explorer.css"

    The script defines `function render({ model, el })` and ends with `export default { render };`.
    It can use every function of `common.js` without importing it: both files become one module.
    A long script may come in several files: then `_script` is a tuple of them.
    """

    _script: str | tuple[str, ...] = ""
    _style: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "_script" in cls.__dict__:  # not in the subclass that add_traits makes of an instance
            scripts = (cls._script,) if isinstance(cls._script, str) else cls._script
            cls._esm = "\n".join(map(_read, ("common.js", *scripts)))
            # A notebook holds several widgets, each with its copy of common.css. The class twice
            # lets a widget's own rules win over copies that were added after them.
            own = _read(cls._style) if cls._style else ""
            cls._css = _read("common.css") + "\n" + own.replace(".zoo-widget", ".zoo-widget" * 2)
        super().__init_subclass__(**kwargs)


class AskingWidget(ZooWidget):
    """A widget whose reader asks Python something, such as to run a model on their own sentence.

    The script sends `ask(content)` (common.js). A subclass answers in `_answer`, by changing
    traits. What it raises is shown in the widget as one sentence, for the reader who asked.
    """

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.on_msg(self._receive)

    def _answer(self, content: dict) -> None:
        """Do what the script asks: `content` is what it passed to `ask`."""
        raise NotImplementedError(f"{type(self).__name__} must implement _answer()")

    def _receive(self, _widget: Any, content: dict, _buffers: Any) -> None:
        if "request" not in content:
            return
        answer = {"kind": "answer", "request": content["request"], "error": ""}
        try:
            self._answer(content)
        except Exception as error:
            answer["error"] = _one_sentence(error)
        self.send(answer)


def _one_sentence(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, ValueError) and first:
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def plot_text(text: str) -> str:
    """A learner's text as matplotlib can draw it: no mathematics, no letters its font lacks.

    matplotlib reads text between dollar signs as mathematics, and warns of each missing letter.
    """
    from matplotlib.font_manager import findfont, get_font

    has = get_font(findfont("DejaVu Sans")).get_char_index
    known = (c if has(ord(c)) else c.encode("ascii", "backslashreplace").decode() for c in text)
    return "".join(known).replace("$", r"\$")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
