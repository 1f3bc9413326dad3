"""Block diagrams of architectures, drawn with matplotlib so that they need no image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

_KINDS = {
    "input": "#e8e8e8",
    "attention": "#cfe3f5",
    "cross": "#ffe0c2",
    "feed-forward": "#d5ecd9",
    "output": "#e8e8e8",
}
_BOX_WIDTH, _BOX_HEIGHT, _STEP = 2.6, 0.62, 1.0


def stack_diagram(
    columns: Mapping[str, Sequence[tuple[str, str]]],
    *,
    repeated: Mapping[str, tuple[int, int, str]] | None = None,
    arrows: Sequence[tuple[tuple[str, int], tuple[str, int], str]] = (),
) -> Figure:
    """Stacks of boxes side by side, data flowing from bottom to top.

    Args:
        columns: title -> boxes from bottom to top, each (text, kind); kinds are "input",
            "attention", "cross", "feed-forward" and "output".
        repeated: title -> (first box, last box, label): a frame around the boxes of one block.
        arrows: ((title, box), (title, box), label): further arrows from box to box.

    Raises:
        ValueError: an unknown kind of box.
    """
    unknown = {kind for boxes in columns.values() for _, kind in boxes} - set(_KINDS)
    if unknown:
        raise ValueError(f"unknown kinds {sorted(unknown)}, expected some of {', '.join(_KINDS)}")
    places = {title: 4.6 * index for index, title in enumerate(columns)}
    tallest = max(map(len, columns.values()))
    fig, ax = plt.subplots(figsize=(min(9.0, 3.9 * len(columns)), 0.62 * tallest + 0.9))
    for title, boxes in columns.items():
        _column(ax, places[title], title, boxes, tallest)
    rightmost = list(columns)[-1]
    for title, (first, last, label) in (repeated or {}).items():
        on_right = title == rightmost and len(columns) > 1  # the left is for arrows from others
        _frame(ax, places[title], first, last, label, on_right)
    for (start, start_box), (end, end_box), label in arrows:
        _cross_arrow(ax, places[start], start_box, places[end], end_box, label)
    ax.set(xlim=(-2.3, 4.6 * (len(columns) - 1) + 2.3), ylim=(-0.6, tallest * _STEP + 0.2))
    ax.set_aspect("equal")
    ax.axis("off")
    return fig


def _column(ax: Axes, x: float, title: str, boxes: Sequence[tuple[str, str]], top: int) -> None:
    ax.text(x, top * _STEP - 0.15, title, ha="center", va="center", fontweight="bold", fontsize=12)
    for index, (text, kind) in enumerate(boxes):
        y = index * _STEP
        corner = (x - _BOX_WIDTH / 2, y - _BOX_HEIGHT / 2)
        ax.add_patch(
            FancyBboxPatch(
                corner,
                _BOX_WIDTH,
                _BOX_HEIGHT,
                boxstyle="round,pad=0.02,rounding_size=0.1",
                facecolor=_KINDS[kind],
                edgecolor="#444444",
            )
        )
        ax.text(x, y, text, ha="center", va="center", fontsize=10)
        if index:
            _arrow(ax, (x, y - _STEP + _BOX_HEIGHT / 2), (x, y - _BOX_HEIGHT / 2))


def _frame(ax: Axes, x: float, first: int, last: int, label: str, on_right: bool) -> None:
    width = _BOX_WIDTH + 0.5
    bottom, top = first * _STEP - 0.45, last * _STEP + 0.45
    corner = (x - width / 2, bottom)
    ax.add_patch(Rectangle(corner, width, top - bottom, fill=False, linestyle="--", color="grey"))
    edge, side = (x + width / 2 + 0.1, "left") if on_right else (x - width / 2 - 0.1, "right")
    ax.text(edge, (bottom + top) / 2, label, ha=side, va="center", fontsize=11)


def _cross_arrow(ax: Axes, x0: float, box0: int, x1: float, box1: int, label: str) -> None:
    start = (x0 + _BOX_WIDTH / 2, box0 * _STEP)
    end = (x1 - _BOX_WIDTH / 2, box1 * _STEP)
    _arrow(ax, start, end)
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12)
    ax.text(*middle, label, ha="center", va="bottom", fontsize=9)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate(
        "", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": "#444444", "lw": 1.2}
    )
