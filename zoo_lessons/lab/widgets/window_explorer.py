"""Window explorer: who can have influenced a token through layers of windowed attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png

_LONGEST_SIDE = 32
_MOST_LAYERS = 12


class WindowExplorer(ZooWidget):
    """Follow Swin's windows through layers: which tokens can have reached the chosen one?

    Layers 1, 3, 5 ... cut the grid into plain windows. Layers 2, 4, 6 ... shift them by half a
    window, if `shifted` is on and more than one window fits, as in `zoo_lessons.models.swin`. A
    number in a cell is how many layers, counted back from the last one, it takes to get there.

    Beside the grid stand the order of the tokens after the roll and the attention mask of the
    chosen token's window, both of the last layer.

    Args:
        rows, columns: of the token grid, 2 to 32.
        window_size: side of a window, from 2 on; it must divide both.
        shifted: shift the windows of every second layer.
        layers: how many layers, 1 to 12.
        query: the chosen token, counted row by row from 0; without it, one at the right edge,
            where a shifted window is cut and its mask has something to hide.

    Raises:
        ValueError: a side, window or query that does not fit.
        traitlets.TraitError: layers out of range.
    """

    _script = "window_explorer.js"
    _style = "window_explorer.css"

    window_size = t.Int(4).tag(sync=True)
    shifted = t.Bool(True).tag(sync=True)
    layers = t.Int(2, min=1, max=_MOST_LAYERS).tag(sync=True)
    query = t.Int(0).tag(sync=True)
    _grid = t.Dict().tag(sync=True)

    def __init__(
        self,
        rows: int = 12,
        columns: int = 12,
        window_size: int = 4,
        *,
        shifted: bool = True,
        layers: int = 2,
        query: int | None = None,
    ) -> None:
        for name, side in {"rows": rows, "columns": columns}.items():
            if not 2 <= side <= _LONGEST_SIDE:
                raise ValueError(f"{name}={side} is outside 2..{_LONGEST_SIDE}")
        self.rows, self.columns = rows, columns
        sizes = [
            size for size in range(2, min(rows, columns) + 1) if not (rows % size or columns % size)
        ]
        if not sizes:
            raise ValueError(f"no window from 2 on divides rows={rows} and columns={columns}")
        self.window_sizes = sizes
        query = (rows - 1) // 2 * columns + columns - 1 if query is None else query
        for name, value in {"window_size": window_size, "query": query}.items():
            self._require(name, value)
        super().__init__(
            window_size=window_size,
            shifted=shifted,
            layers=layers,
            query=query,
            _grid={
                "rows": rows,
                "columns": columns,
                "window_sizes": sizes,
                "most_layers": _MOST_LAYERS,
            },
        )

    def _require(self, name: str, value: int) -> None:
        """Raise ValueError if a trait's value does not fit the grid."""
        if name == "query" and not 0 <= value < self.rows * self.columns:
            raise ValueError(f"query={value} is outside 0..{self.rows * self.columns - 1}")
        if name == "window_size" and value not in self.window_sizes:
            raise ValueError(
                f"window_size={value} must divide rows={self.rows} and columns={self.columns}: "
                f"one of {self.window_sizes}"
            )

    @t.validate("window_size", "query")
    def _fits(self, proposal: dict) -> Any:
        try:
            self._require(proposal["trait"].name, proposal["value"])
        except ValueError as error:
            raise t.TraitError(str(error)) from None
        return proposal["value"]

    def shift(self, layer: int) -> int:
        """By how many tokens the windows of a layer, counted from 1, are shifted."""
        alone = self.window_size == min(self.rows, self.columns)
        return 0 if alone or not self.shifted or layer % 2 else self.window_size // 2

    def _groups(self, layer: int) -> np.ndarray:
        """(rows, columns): tokens with the same number may attend to each other in that layer.

        Where windows are shifted, those at the edges are cut in pieces: the roll brings pieces of
        opposite edges into one window, and the mask keeps them apart.
        """
        shift, size = self.shift(layer), self.window_size
        down = (np.arange(self.rows) - shift) // size + 1
        across = (np.arange(self.columns) - shift) // size + 1
        return down[:, None] * (self.columns + 2) + across

    def reach(self) -> np.ndarray:
        """How many layers back from the last it takes to reach each token from the query.

        Returns:
            int (rows, columns): 0 for the query itself, -1 for tokens that cannot influence it.
        """
        reached = np.full((self.rows, self.columns), -1)
        reached[divmod(self.query, self.columns)] = 0
        for step in range(1, self.layers + 1):
            groups = self._groups(self.layers - step + 1)
            met = np.isin(groups, groups[reached >= 0])
            reached[met & (reached < 0)] = step
        return reached

    def rolled(self) -> np.ndarray:
        """The tokens' numbers after the last layer's roll, (rows, columns)."""
        shift = self.shift(self.layers)
        tokens = np.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        return np.roll(tokens, (-shift, -shift), axis=(0, 1))

    def mask(self) -> np.ndarray:
        """Who may attend to whom in the query's window, in the last layer.

        Returns:
            bool (window_size², window_size²), tokens in the order that they have after the roll.
        """
        tokens, size = self.rolled(), self.window_size
        top, left = (int(place[0]) // size * size for place in np.nonzero(tokens == self.query))
        window = tokens[top : top + size, left : left + size].ravel()
        groups = self._groups(self.layers).ravel()[window]
        return groups[:, None] == groups

    def static_text(self) -> str:
        count, all_tokens = int((self.reach() >= 0).sum()), self.rows * self.columns
        row, column = divmod(self.query, self.columns)
        return (
            f"WindowExplorer: {self.rows} x {self.columns} tokens in windows of "
            f"{self.window_size} x {self.window_size}, "
            f"{'every second layer shifted' if self.shifted else 'never shifted'}; after "
            f"{self.layers} layers {count} of {all_tokens} tokens have reached row {row}, "
            f"column {column}"
        )

    def static_png(self) -> bytes:
        """The tokens that reach the query (left); its window's mask in the last layer (right)."""
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure

        reach, shift, size = self.reach(), self.shift(self.layers), self.window_size
        fig = Figure(figsize=(8, 4.6), layout="constrained")
        left, right = fig.subplots(1, 2)
        colors = ListedColormap(["#ececec", *_step_colors(self.layers)])
        edges = [np.arange(side + 1) - 0.5 for side in (self.columns, self.rows)]
        left.pcolormesh(
            *edges, reach, cmap=colors, vmin=-1.5, vmax=self.layers + 0.5, ec="white", lw=0.6
        )
        if max(self.rows, self.columns) <= 16:
            for (row, column), step in np.ndenumerate(reach):
                if step >= 0:
                    ink = "black" if 1 - 0.85 * step / self.layers > 0.45 else "white"
                    left.text(column, row, step, ha="center", va="center", fontsize=8, color=ink)
        lines = dict(color="#d55e00", linewidth=1.6)
        for start, side, draw in ((shift, self.rows, "h"), (shift, self.columns, "v")):
            places = [*range(start, side, size), 0, side]
            length = self.columns if draw == "h" else self.rows
            getattr(left, f"{draw}lines")(np.array(places) - 0.5, -0.5, length - 0.5, **lines)
        left.set_title(
            f"{np.count_nonzero(reach >= 0)} of {reach.size} tokens reach the query\n"
            f"0: the query; 1: in layer {self.layers}; 2: from one before; ...",
            fontsize=10,
        )
        mask = self.mask()
        right.pcolormesh(
            *[np.arange(len(mask) + 1) - 0.5] * 2,
            mask,
            cmap=ListedColormap(["#ececec", "#0072b2"]),
            vmin=0,
            vmax=1,
            ec="white",
            lw=0.6 if size <= 8 else 0,
        )
        right.set_title(f"Mask of its window\nin layer {self.layers}, shift {shift}", fontsize=10)
        right.set_xlabel("key in the window (blue: may attend)")
        right.set_ylabel("query in the window")
        left.set_xlabel("column")
        left.set_ylabel("row")
        for axes in (left, right):
            axes.locator_params(integer=True)
            axes.invert_yaxis()
            axes.set_aspect("equal")
            axes.set_anchor("N")
        return figure_png(fig)


def _step_colors(layers: int) -> np.ndarray:
    """cividis from light, for the query, to dark, for what takes the most layers."""
    from matplotlib import colormaps

    return colormaps["cividis"](np.linspace(1, 0.15, layers + 1))
