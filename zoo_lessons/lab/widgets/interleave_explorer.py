"""Interleave explorer: images and words in turns, and which image each word may attend to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text
from zoo_lessons.lab.widgets.images import for_plot, image_bytes

IMAGE_TOKEN = "<image>"
_LONGEST = 64


class InterleaveExplorer(ZooWidget):
    """Pick a word of a text with images in it: the images that it may attend to light up.

    The rule is Flamingo's: each word sees the last image before it. A checkbox shows the other
    choice, all images so far. Beside the text stands the mask: a row for each token, a column for
    each image. Click a word, or move with the arrow keys.

    Args:
        tokens: words, and "<image>" where an image stands; 1 to 64.
        images: one for each "<image>", each (height, width, 3) or (height, width), uint8 or floats
            from 0 to 1. Without them, numbered boxes stand for the images.
        query: the token picked at first; by default the last.
        all_previous: see all images so far instead of the last.
        num_latents: latents of one image, for the readout.

    Raises:
        ValueError: no or too many tokens, another number of images than of "<image>" tokens, a
            token that is not there, or num_latents below 1.
    """

    _script = "interleave_explorer.js"
    _style = "interleave_explorer.css"

    query = t.Int(0).tag(sync=True)
    all_previous = t.Bool(False).tag(sync=True)
    tokens = t.List(t.Unicode()).tag(sync=True)
    num_latents = t.Int(1).tag(sync=True)
    _images = t.List(t.Dict()).tag(sync=True)  # {height, width, channels, pixels}

    def __init__(
        self,
        tokens: Sequence[str],
        images: Sequence[Any] | None = None,
        *,
        query: int | None = None,
        all_previous: bool = False,
        num_latents: int = 64,
    ) -> None:
        tokens = [str(token) for token in tokens]
        if not 1 <= len(tokens) <= _LONGEST:
            raise ValueError(f"got {len(tokens)} tokens, expected 1 to {_LONGEST}")
        count = tokens.count(IMAGE_TOKEN)
        if images is not None and len(images) != count:
            raise ValueError(f"got {len(images)} images for {count} {IMAGE_TOKEN} tokens")
        if num_latents < 1:
            raise ValueError(f"num_latents={num_latents}, expected at least 1")
        self._pixels = [
            image_bytes(image, f"image {number}") for number, image in enumerate(images or [], 1)
        ]
        query = len(tokens) - 1 if query is None else query
        self._require_query(query, len(tokens))
        super().__init__(
            query=query,
            all_previous=all_previous,
            tokens=tokens,
            num_latents=num_latents,
            _images=[
                {
                    "height": image.shape[0],
                    "width": image.shape[1],
                    "channels": image.shape[2],
                    "pixels": image.tobytes(),
                }
                for image in self._pixels
            ],
        )

    @staticmethod
    def _require_query(query: int, length: int) -> None:
        if not 0 <= query < length:
            raise ValueError(f"query={query} must be between 0 and {length - 1}")

    @t.validate("query")
    def _valid_query(self, proposal: dict) -> int:
        if self.tokens:
            self._require_query(proposal["value"], len(self.tokens))
        return proposal["value"]

    def mask(self) -> np.ndarray:
        """What is on show, bool (tokens, images), True = the token may attend to the image."""
        last = np.cumsum([token == IMAGE_TOKEN for token in self.tokens])[:, None]
        image = np.arange(1, self.tokens.count(IMAGE_TOKEN) + 1)
        return image <= last if self.all_previous else image == last

    def static_text(self) -> str:
        seen = (np.flatnonzero(self.mask()[self.query]) + 1).tolist()
        what = f"image{'s' * (len(seen) > 1)} {', '.join(map(str, seen))}" if seen else "no image"
        rule = "all images so far" if self.all_previous else "the last image"
        count = self.tokens.count(IMAGE_TOKEN)
        return (
            f"InterleaveExplorer: {len(self.tokens)} tokens, {count} image{'s' * (count != 1)}, "
            f"each token sees {rule}; token {self.query} ({self.tokens[self.query]!r}) sees {what}"
        )

    def static_png(self) -> bytes:
        """The mask, with the images over its columns."""
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        mask = self.mask()
        rows, columns = mask.shape
        fig = Figure(figsize=(8, min(12.0, 1.7 + 0.21 * rows)), layout="constrained")
        axes = fig.subplots()
        axes.pcolormesh(
            np.arange(columns + 1) + 0.5,
            np.arange(rows + 1) - 0.5,
            mask,
            cmap=ListedColormap(["#ececec", "#0072b2"]),
            vmin=0,
            vmax=1,
            edgecolors="white",
            linewidth=0.8,
        )
        axes.invert_yaxis()
        axes.set_yticks(range(rows), list(map(plot_text, self.tokens)), fontsize=8)
        axes.get_yticklabels()[self.query].set_fontweight("bold")
        axes.set_xticks(range(1, columns + 1), [f"image {i}" for i in range(1, columns + 1)])
        axes.xaxis.tick_top()
        axes.tick_params(length=0, pad=34 if self._pixels else 4)
        axes.tick_params(axis="y", pad=4)
        for number, image in enumerate(self._pixels, 1):
            picture = OffsetImage(for_plot(image), zoom=28 / image.shape[0])
            axes.add_artist(
                AnnotationBbox(
                    picture,
                    (number, -0.5),
                    xybox=(0, 18),
                    boxcoords="offset points",
                    frameon=False,
                    annotation_clip=False,
                )
            )
        rule = "all images so far" if self.all_previous else "the last image before it"
        axes.set_xlabel(f"blue: the token may attend to the image; each sees {rule}")
        return figure_png(fig)
