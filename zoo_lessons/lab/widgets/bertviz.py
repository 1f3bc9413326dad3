"""BertViz's head view and model view, made to work without a network.

BertViz (Jesse Vig, Apache License 2.0) fetches require.js, jQuery and d3 from a content delivery
network when a view is drawn, so offline its views stay empty. Here its own JavaScript runs
unchanged in a sandboxed frame that carries all it needs: d3 5.7.0 (Mike Bostock, BSD 3-Clause)
comes from the installed mpld3 package, and the handful of jQuery calls are answered by the shim
below. The output is the same bytes for the same input, so a stored notebook stays stable.
"""

from __future__ import annotations

import functools
import html
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo_lessons.lab.widgets.attention_explorer import attention_array

_DECIMALS = 3

_JQUERY_SHIM = r"""
const $ = (what) => {
  const nodes = typeof what !== "string" ? [what]
    : what.trim().startsWith("<") ? [document.createElement(what.replace(/[<>\/\s]/g, ""))]
    : [...document.querySelectorAll(what)];
  const each = (fn) => { nodes.forEach(fn); return wrapped; };
  const wrapped = {
    0: nodes[0],
    length: nodes.length,
    append: (child) => each((node) => node.append(child && child[0] ? child[0] : child)),
    empty: () => each((node) => node.replaceChildren()),
    attr: (name, value) => each((node) => node.setAttribute(name, value)),
    text: (value) => each((node) => { node.textContent = value; }),
    val: (value) => each((node) => { node.value = value; }),
    change: () => each((node) => node.dispatchEvent(new Event("change"))),
    on: (event, fn) => each((node) => node.addEventListener(event, fn)),
  };
  return wrapped;
};
const require = { config() {} };
const requirejs = (names, run) => run($, d3);
console.log = () => {};
"""


# The model view draws 970 pixels wide; let it shrink in narrow windows, and its frame with it.
_MODEL_VIEW_WIDTH = 996
_FIT = """
for (const svg of document.querySelectorAll("svg[width='970']")) {
  svg.setAttribute("viewBox", `0 0 970 ${svg.getAttribute("height")}`);
  svg.style.cssText = "max-width:100%;height:auto";
}
"""


class BertVizView:
    """A view that a notebook shows as a frame, with a line of text where frames are not shown."""

    def __init__(self, markup: str, text: str) -> None:
        self.html, self._text = markup, text

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self.html


def head_view(
    attention: Any,
    tokens: Sequence[str],
    query_tokens: Sequence[str] | None = None,
    *,
    layer: int = 0,
    heads: Sequence[int] | None = None,
    max_tokens: int = 40,
) -> BertVizView:
    """One layer's heads as coloured lines between queries (left) and keys (right).

    Hover a token to see its weights; double-click a colour to see one head alone.

    Args:
        attention: any form that `AttentionExplorer` takes.
        tokens: one string per key.
        query_tokens: one string per query, for cross-attention.
        layer: the layer shown at first.
        heads: the heads switched on at first; by default all.
        max_tokens: refuse longer inputs. BertViz draws every weight as a line: 20 tokens read
            well, 128 take seconds and megabytes.

    Raises:
        TypeError, ValueError: as in `AttentionExplorer`; also `layer` or `heads` out of range, or
            more than `max_tokens` tokens.
    """
    array = attention_array(attention)
    _require_index("layer", layer, array.shape[0])
    for head in heads or ():
        _require_index("head", head, array.shape[1])
    options = {"layer": layer, "heads": None if heads is None else list(heads)}
    size = f"height:{round(22.5 * max(array.shape[2:])) + 75}px"
    return _view("head_view", array, tokens, query_tokens, max_tokens, options, size)


def model_view(
    attention: Any,
    tokens: Sequence[str],
    query_tokens: Sequence[str] | None = None,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    max_tokens: int = 40,
) -> BertVizView:
    """All heads of all layers as thumbnails; click one to enlarge it.

    Args:
        attention, tokens, query_tokens, max_tokens: as in `head_view`.
        layers, heads: which to show; by default all.

    Raises:
        TypeError, ValueError: as in `head_view`.
    """
    array = attention_array(attention)
    for name, chosen, count in (
        ("layer", layers, array.shape[0]),
        ("head", heads, array.shape[1]),
    ):
        for index in chosen or ():
            _require_index(name, index, count)
    options = {
        "display_mode": "light",
        "include_layers": None if layers is None else list(layers),
        "include_heads": None if heads is None else list(heads),
    }
    rows = max(array.shape[2:])
    shown_layers = len(layers) if layers else array.shape[0]
    shown_heads = len(heads) if heads else array.shape[1]
    thumbnails = shown_layers * (rows * 84 / shown_heads + 10) + 38
    height = round(max(thumbnails, 18 * rows + 55)) + 35
    size = f"max-height:{height}px;aspect-ratio:{_MODEL_VIEW_WIDTH}/{height}"
    return _view("model_view", array, tokens, query_tokens, max_tokens, options, size)


def _require_index(name: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise ValueError(f"{name} {index} is outside 0..{count - 1}")


def _view(
    kind: str,
    array: np.ndarray,
    tokens: Sequence[str],
    query_tokens: Sequence[str] | None,
    max_tokens: int,
    options: dict[str, Any],
    size: str,
) -> BertVizView:
    import bertviz
    import torch

    layers, heads, queries, keys = array.shape
    tokens = [str(token) for token in tokens]
    query_tokens = tokens if query_tokens is None else [str(token) for token in query_tokens]
    for name, labels, count in (("tokens", tokens, keys), ("query_tokens", query_tokens, queries)):
        if len(labels) != count:
            what = "keys" if name == "tokens" else "queries"
            raise ValueError(f"attention has {count} {what} but {name} has {len(labels)} entries")
    if max(queries, keys) > max_tokens:
        raise ValueError(
            f"{max(queries, keys)} tokens are too many for BertViz, which draws every weight as a "
            f"line: use at most {max_tokens}, or AttentionExplorer for long inputs"
        )
    # float64 rounded to 3 decimals prints as 0.125, not as 17 digits.
    weights = [torch.from_numpy(a.astype(np.float64).round(_DECIMALS))[None] for a in array]
    if query_tokens == tokens:
        inputs = {"attention": weights, "tokens": tokens}
    else:
        inputs = {
            "cross_attention": weights,
            "encoder_tokens": tokens,
            "decoder_tokens": query_tokens,
        }
    draw = getattr(bertviz, kind)
    body = _without_loader(draw(**inputs, **options, html_action="return").data)
    title = kind.replace("_", " ")
    text = (
        f"BertViz {title}: {layers} layers x {heads} heads, {queries} queries x {keys} keys, "
        f"weights rounded to {_DECIMALS} decimals"
    )
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{text}</title>'
        "<style>body{margin:10px 12px;background:#fff;color:#000;font:13px sans-serif}"
        "select{font:inherit}</style>"
        f"</head><body><script>{_d3()}</script><script>{_JQUERY_SHIM}</script>{body}"
        f"<script>{_FIT}</script></body></html>"
    )
    # In an attribute only these two characters need escaping; more would bloat d3.
    source = page.replace("&", "&amp;").replace('"', "&quot;")
    # The views are drawn for a white page; a frame of their own keeps them white in dark themes.
    markup = (
        '<figure style="margin:0">'
        f'<iframe title="{html.escape(text)}" sandbox="allow-scripts" srcdoc="{source}" '
        f'style="display:block;width:100%;{size};box-sizing:border-box;'
        'border:1px solid #c8c8c8;border-radius:6px;background:#fff"></iframe>'
        f'<figcaption style="margin-top:6px">{html.escape(text)}. '
        "Drawn live: run the cell if you see no lines."
        "</figcaption></figure>"
    )
    return BertVizView(markup, text)


def _without_loader(markup: str) -> str:
    """BertViz's page without its network loader, random id, unlabelled list and doubled data."""
    replacements = (
        (r'<script src="https://cdnjs[^"]+require\.min\.js"></script>', "", 1),
        (r"\brequire\.config\(\{.*?\n\}\);", "", 1),
        (r"// HACK: .*", "", 1),  # the marker in this comment gets a second copy of all weights
        (r"bertviz-[0-9a-f]{32}", "bertviz", 2),
    )
    for pattern, replacement, count in replacements:
        flags = re.DOTALL if "config" in pattern else 0
        markup, found = re.subn(pattern, replacement, markup, flags=flags)
        if found < count:
            raise RuntimeError(
                "this version of bertviz builds its page in another way; install bertviz 1.4.x"
            )
    # A token such as "</script>" must not end the script that carries it.
    markup = re.sub(
        r"(?<=const params = ).*", lambda data: data[0].replace("</", "<\\/"), markup, count=1
    )
    return markup.replace('<select id="layer">', '<select id="layer" aria-label="Layer">')


@functools.cache
def _d3() -> str:
    spec = importlib.util.find_spec("mpld3")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("BertViz's views need d3 from mpld3: pip install mpld3")
    path = Path(spec.submodule_search_locations[0]) / "js" / "d3.v5.min.js"
    return path.read_text(encoding="utf-8")
