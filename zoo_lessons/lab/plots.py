"""Figures in the course's style, and the one way a lesson shows them.

Functions here take plain arrays and return a matplotlib figure; `show_figure` displays it.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from zoo_lessons.lab.widgets.base import figure_png

# Okabe and Ito's palette (2008), told apart by colour-blind readers. The yellow is left out: it
# vanishes on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LINE_STYLES = ("-", "--", "-.", ":")
_MARKERS = "osD^vPX"
_MAX_WIDTH_IN = 9.0  # 900 pixels at the course's 100 dpi

STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": plt.cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    # White even in JupyterLab's dark theme: black text on a transparent figure would vanish there.
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "figure.figsize": (8.0, 4.0),
    "font.size": 11,
    "grid.alpha": 0.35,
    "image.cmap": "cividis",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "lines.linewidth": 2.0,
    "savefig.facecolor": "white",
}


def use_style() -> None:
    """Make the course's style matplotlib's default in this notebook."""
    plt.rcParams.update(STYLE)


class _Picture:
    """A PNG with its alternative text. nbconvert and its like put `alt` on the image."""

    def __init__(self, png: bytes, alt: str) -> None:
        self.png, self.alt = png, alt

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        data = {"image/png": base64.b64encode(self.png).decode("ascii"), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


class _Caption:
    def __init__(self, caption: str, alt: str) -> None:
        self.caption, self.alt = caption, alt

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        text = (
            '<div style="max-width:860px;font-size:13px;line-height:1.5">'
            f"<strong>Figure.</strong> {html.escape(self.caption)}"
            '<details><summary style="cursor:pointer">Description of the figure</summary>'
            f"{html.escape(self.alt)}</details></div>"
        )
        return {"text/html": text, "text/plain": f"Figure. {self.caption}"}


def show_figure(fig: Figure, caption: str, alt: str) -> None:
    """Show a figure with its caption and a description for those who do not see it; close it.

    JupyterLab 4 drops alternative text from PNG outputs, and GitHub drops pictures that are written
    into HTML. So the picture is a PNG, which every viewer shows, and the description stands in the
    caption below it, where screen readers find it in every viewer.

    Args:
        fig: what matplotlib made. It is closed, so that it is not shown a second time.
        caption: what the reader should see in the figure, in a sentence or two.
        alt: what the figure shows, for a reader who does not see it: kind, axes, and shape.

    Raises:
        ValueError: the caption or the description is empty, or the figure is too wide for a page.
    """
    for name, text in {"caption": caption, "alt": alt}.items():
        if not text.strip():
            raise ValueError(f"show_figure needs a {name}; say in words what the figure shows")
    width = fig.get_figwidth()
    if width > _MAX_WIDTH_IN:
        raise ValueError(f"the figure is {width:g} inches wide, at most {_MAX_WIDTH_IN:g} fit")
    try:
        display(_Picture(figure_png(fig), alt))
    finally:
        plt.close(fig)
    display(_Caption(caption, alt))


def heatmap(
    matrix: ArrayLike,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    *,
    title: str,
    row_axis: str = "",
    column_axis: str = "",
    value: str = "",
    numbers: bool | str = False,
    limits: tuple[float, float] | None = None,
    cmap: str = "cividis",
) -> Figure:
    """A matrix as coloured squares, with labels and, if asked for, its numbers.

    Args:
        matrix: (rows, columns). Booleans are drawn as 0 and 1.
        row_labels, column_labels: one text per row and column.
        title: stands above the picture.
        row_axis, column_axis: what the rows and the columns are, such as "query" and "key".
        value: what the colour means.
        numbers: True writes each value with two decimals; a format such as ".0f" writes it so.
        limits: values of the first and the last colour. Without it: smallest and largest value.
        cmap: a matplotlib colour map. Use "coolwarm" with symmetric limits for signed values.

    Raises:
        ValueError: the matrix has not two axes, or labels do not fit.
    """
    return heatmaps(
        {title: matrix},
        row_labels,
        column_labels,
        row_axis=row_axis,
        column_axis=column_axis,
        value=value,
        numbers=numbers,
        limits=limits,
        cmap=cmap,
    )


def heatmaps(
    panels: Mapping[str, ArrayLike],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    *,
    title: str = "",
    row_axis: str = "",
    column_axis: str = "",
    value: str = "",
    numbers: bool | str = False,
    limits: tuple[float, float] | None = None,
    cmap: str = "cividis",
) -> Figure:
    """Several matrices of one shape side by side, on one colour scale. See `heatmap`.

    Args:
        panels: title -> matrix (rows, columns).
        title: stands above all panels.
    """
    matrices = {name: np.asarray(matrix, dtype=float) for name, matrix in panels.items()}
    shapes = {matrix.shape for matrix in matrices.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"heatmaps needs matrices of one shape (rows, columns), got {shapes}")
    rows, columns = shapes.pop()
    for name, labels, size in (("row", row_labels, rows), ("column", column_labels, columns)):
        if labels is not None and len(labels) != size:
            raise ValueError(f"got {len(labels)} {name} labels for {size} {name}s")
    values = np.concatenate([matrix.ravel() for matrix in matrices.values()])
    low, high = limits or (np.nanmin(values), np.nanmax(values))

    per_row = min(len(matrices), 3)
    panel_rows = -(-len(matrices) // per_row)
    beside, below = (_label_room(labels) for labels in (row_labels, column_labels))
    square = 0.75 if numbers else 0.55
    width = min(_MAX_WIDTH_IN, 1.8 + beside + per_row * max(2.4, square * columns))
    panel_height = (width - 2.0 - beside) / per_row * rows / columns + 0.35
    height = panel_rows * panel_height + 0.8 + below + (0.3 if title else 0)
    fig, axes = plt.subplots(
        panel_rows, per_row, figsize=(width, min(height, 9.0)), squeeze=False, sharey=True
    )
    for ax in axes.flat[len(matrices) :]:
        ax.set_axis_off()
    for index, (ax, (name, matrix)) in enumerate(zip(axes.flat, matrices.items(), strict=False)):
        image = ax.imshow(matrix, cmap=cmap, vmin=low, vmax=high)
        is_lowest = index + per_row >= len(matrices)
        _label_matrix(ax, row_labels, column_labels if is_lowest else [])
        ax.set_title(name)
        ax.set_xlabel(column_axis if is_lowest else "")
        ax.set_ylabel(row_axis if index % per_row == 0 else "")
        if numbers:
            _write_numbers(ax, image, matrix, numbers if isinstance(numbers, str) else ".2f")
    fig.colorbar(image, ax=axes, label=value, shrink=0.8)
    if title:
        fig.suptitle(title, fontweight="bold")
    return fig


def _label_room(labels: Sequence[str] | None) -> float:
    """Inches that labels need beside, or turned by 45 degrees below, a matrix."""
    return 0.06 * max(map(len, labels or ()), default=0)


def _label_matrix(
    ax: Axes, row_labels: Sequence[str] | None, column_labels: Sequence[str] | None
) -> None:
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if row_labels is not None:
        ax.set_yticks(range(len(row_labels)), row_labels)
    if column_labels is not None:
        long = max(map(len, column_labels), default=0) > 2
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
        ax.set_xticks(range(len(column_labels)), column_labels, **turned)


def _write_numbers(ax: Axes, image: Any, matrix: np.ndarray, number_format: str) -> None:
    for (row, column), number in np.ndenumerate(matrix):
        red, green, blue, _ = image.cmap(image.norm(number))
        is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        color = "white" if is_dark else "black"
        ax.text(column, row, format(number, number_format), ha="center", va="center", color=color)


def lines(
    series: Mapping[str, ArrayLike],
    x: ArrayLike | None = None,
    *,
    title: str,
    x_axis: str,
    y_axis: str,
    log: str = "",
    markers: bool | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Named lines over one axis, told apart by colour and by dashes.

    Args:
        series: name -> values (points,), or (seeds, points): then the line is the mean over seeds,
            and the band around it goes from the lowest to the highest seed.
        x: positions of the points (points,); 0, 1, 2 ... without it.
        title, x_axis, y_axis: texts, with units where there are any.
        log: "x", "y" or "xy" for logarithmic axes.
        markers: a mark at each point; without it, where there are at most 20 points.
        ax: draw into these axes of a larger figure instead of a new one.

    Raises:
        ValueError: a series has another number of points than `x`, or `log` is something else.
    """
    if set(log) - set("xy"):
        raise ValueError(f"log must be '', 'x', 'y' or 'xy', got {log!r}")
    own_figure = ax is None
    if own_figure:
        _, ax = plt.subplots()
    seeds = 0
    for index, (name, values) in enumerate(series.items()):
        values = np.asarray(values, dtype=float)
        runs = np.atleast_2d(values)  # (seeds, points)
        places = np.arange(runs.shape[1]) if x is None else np.asarray(x, dtype=float)
        if runs.ndim != 2 or places.shape != runs.shape[1:]:
            raise ValueError(
                f"series {name!r} has shape {values.shape}, expected (points,) or (seeds, points) "
                f"with {places.size} points"
            )
        color = COLORS[index % len(COLORS)]
        marked = runs.shape[1] <= 20 if markers is None else markers
        ax.plot(
            places,
            runs.mean(axis=0),
            label=name,
            color=color,
            linestyle=_LINE_STYLES[index % len(_LINE_STYLES)],
            marker=_MARKERS[index % len(_MARKERS)] if marked else None,
        )
        if values.ndim == 2:
            seeds = max(seeds, len(runs))
            ax.fill_between(places, runs.min(axis=0), runs.max(axis=0), color=color, alpha=0.15)
    for axis in log:
        ax.set(**{f"{axis}scale": "log"})
    if "x" in log and places.size <= 12:  # the lengths that were measured, not powers of ten
        ax.set_xticks(places, [f"{place:g}" for place in places])
        ax.xaxis.minorticks_off()
    ax.set(title=title, xlabel=x_axis, ylabel=y_axis)
    if len(series) > 1 or seeds:
        beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if own_figure else {}
        ax.legend(title=f"mean and range\nof {seeds} seeds" if seeds else None, **beside)
    return ax.figure


def training_curves(
    histories: Mapping[str, Any],
    field: str = "loss",
    *,
    title: str,
    y_axis: str = "",
    smooth: int = 1,
    log: str = "",
    ax: Axes | None = None,
) -> Figure:
    """One quantity of training runs over their steps.

    Args:
        histories: name -> what `training.fit` returned, or anything with arrays `step` and `field`.
        field: "loss", "lr", "grad_norm" ...
        smooth: draw the running mean of so many steps, and each single step faintly behind it.

    Raises:
        ValueError: `smooth` is smaller than 1, or larger than a run.
    """
    if ax is None:
        _, ax = plt.subplots()
    for index, (name, history) in enumerate(histories.items()):
        steps = np.asarray(history.step, dtype=float)
        values = np.asarray(getattr(history, field), dtype=float)
        if not 1 <= smooth <= len(values):
            raise ValueError(f"smooth={smooth} must lie between 1 and the {len(values)} steps")
        color = COLORS[index % len(COLORS)]
        style = _LINE_STYLES[index % len(_LINE_STYLES)]
        if smooth > 1:
            ax.plot(steps, values, color=color, alpha=0.25, linewidth=1)
        mean = np.convolve(values, np.full(smooth, 1 / smooth), mode="valid")
        ax.plot(steps[smooth - 1 :], mean, color=color, linestyle=style, label=name)
    for axis in log:
        ax.set(**{f"{axis}scale": "log"})
    smoothed = f" (running mean of {smooth} steps)" if smooth > 1 else ""
    ax.set(title=title, xlabel="step", ylabel=(y_axis or field.replace("_", " ")) + smoothed)
    if len(histories) > 1:
        ax.legend()
    return ax.figure
