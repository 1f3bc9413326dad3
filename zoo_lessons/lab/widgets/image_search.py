"""Image search: a caption finds images, an image finds captions, by cosines in a shared space."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import AskingWidget, figure_png, plot_text
from zoo_lessons.lab.widgets.images import for_plot, to_bytes


class ImageSearch(AskingWidget):
    """Type a caption, get the nearest images; pick one of them, get the captions nearest to it.

    A caption in the answer is a button, too: it searches for itself. The model runs in Python, once
    per typed text; the vectors of the images and of their captions are given.

    Args:
        images: (n, height, width, 3), from 0 to 1 or uint8.
        captions: n texts, one for each image; equal ones are listed once.
        image_embeds, text_embeds: (n, width) array or tensor, rows of length 1.
        embed: `embed(text)` gives the (width,) vector of length 1 of a text. A ValueError it raises
            is shown to the reader as it is, so let it say what to do.
        query: searched first, at once. By default the first of `examples`.
        examples: texts to click.
        count: how many images a text finds.
        count_captions: how many captions an image finds.

    Raises:
        ValueError: shapes that do not fit each other, rows that are not of length 1, no first
            query, or counts outside 1 to n.
    """

    _script = "image_search.js"
    _style = "image_search.css"

    query = t.Unicode("").tag(sync=True)
    picked = t.Int(0).tag(sync=True)
    _found = t.Dict().tag(sync=True)
    _captions = t.Dict().tag(sync=True)
    _payload = t.Dict().tag(sync=True)

    def __init__(
        self,
        images: Any,
        captions: Sequence[str],
        image_embeds: Any,
        text_embeds: Any,
        embed: Callable[[str], Any],
        query: str = "",
        *,
        examples: Sequence[str] = (),
        count: int = 6,
        count_captions: int = 5,
    ) -> None:
        self._pixels = to_bytes(images, "images")
        self._names = [str(caption) for caption in captions]
        size = len(self._names)
        if self._pixels.shape[:1] != (size,) or self._pixels.shape[3:] != (3,):
            raise ValueError(
                f"images have shape {self._pixels.shape} for {size} captions, expected "
                f"({size}, height, width, 3)"
            )
        self._images = _unit_rows("image_embeds", image_embeds, size)
        first: dict[str, int] = {}
        for place, name in enumerate(self._names):
            first.setdefault(name, place)
        self._distinct = list(first)
        texts = _unit_rows("text_embeds", text_embeds, size)
        self._texts = texts[list(first.values())]
        for name, value, most in (
            ("count", count, size),
            ("count_captions", count_captions, len(first)),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"{name}={value} must be from 1 to {most}")
        self._embed, self._count, self._count_captions = embed, count, count_captions
        examples = [str(example) for example in examples]
        query = query or next(iter(examples), "")
        if not query.strip():
            raise ValueError("an ImageSearch needs a query or examples to show a first answer")
        _, height, width, _ = self._pixels.shape
        super().__init__(_payload={"examples": examples, "height": height, "width": width})
        self.search(query)

    def search(self, query: str) -> list[tuple[int, float]]:
        """The images nearest to a text, and the captions nearest to the first of them.

        Returns:
            (image, cosine), best first.

        Raises:
            ValueError: the text is blank, or what `embed` raises.
        """
        if not query.strip():
            raise ValueError("Type a caption first.")
        cosines = self._images @ _numbers(self._embed(query))
        found = _best(cosines, self._count)
        with self.hold_sync():
            self.query = query
            self._found = {
                "query": query,
                "images": [
                    {
                        "image": image,
                        "cosine": round(cosine, 3),
                        "caption": self._names[image],
                        "pixels": self._pixels[image].tobytes(),
                    }
                    for image, cosine in found
                ],
            }
            self.pick(found[0][0])
        return found

    def pick(self, image: int) -> list[tuple[str, float]]:
        """The captions nearest to an image: (caption, cosine), best first.

        Raises:
            ValueError: there is no such image.
        """
        if not 0 <= image < len(self._names):
            raise ValueError(f"image={image} is outside 0..{len(self._names) - 1}")
        best = _best(self._texts @ self._images[image], self._count_captions)
        found = [(self._distinct[place], cosine) for place, cosine in best]
        with self.hold_sync():
            self.picked = image
            self._captions = {
                "image": image,
                "rows": [
                    {
                        "caption": caption,
                        "cosine": round(cosine, 3),
                        "own": caption == self._names[image],
                    }
                    for caption, cosine in found
                ],
            }
        return found

    def _answer(self, content: dict) -> None:
        if content["kind"] == "image":
            self.pick(int(content["image"]))
        else:
            self.search(str(content["text"]))

    def static_text(self) -> str:
        # No cosines: a notebook's stored text is compared on other processors.
        first = self._found["images"][0]["caption"]
        return (
            f"ImageSearch: “{self.query}” among {len(self._names)} images; the nearest one shows "
            f"“{first}”"
        )

    def static_png(self) -> bytes:
        """The images found, and the captions nearest to the picked one."""
        from matplotlib.figure import Figure

        shown, rows = self._found["images"], self._captions["rows"]
        fig = Figure(figsize=(9, 2.3 + 0.2 * len(rows)))
        fig.suptitle(plot_text(textwrap.shorten(f"“{self.query}”", 100)), fontsize=10, y=0.98)
        side = 9 / max(6, len(shown))  # inches
        low = 0.2 * len(rows) + 0.35
        height = fig.get_figheight()
        for place, each in enumerate(shown):
            left = (place + 0.06) * side / 9
            axes = fig.add_axes((left, low / height, 0.88 * side / 9, 0.88 * side / height))
            axes.imshow(for_plot(self._pixels[each["image"]]), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"{each['cosine']:.3f}", fontsize=9)
            for spine in axes.spines.values():
                chosen = each["image"] == self.picked
                spine.set(
                    edgecolor="#d55e00" if chosen else "#bbbbbb", linewidth=3 if chosen else 1
                )
        for place, row in enumerate(rows):
            text = f"{row['cosine']:.3f}  {row['caption']}" + ("  (its own)" if row["own"] else "")
            fig.text(0.02, (low - 0.25 - 0.2 * place) / height, plot_text(text), fontsize=9)
        return figure_png(fig)


def _best(cosines: np.ndarray, count: int) -> list[tuple[int, float]]:
    places = np.argsort(-cosines, kind="stable")[:count]
    return [(int(place), float(cosines[place])) for place in places]


def _unit_rows(name: str, values: Any, size: int) -> np.ndarray:
    rows = _numbers(values)
    if rows.ndim != 2 or len(rows) != size:
        raise ValueError(f"{name} has shape {rows.shape}, expected ({size}, width)")
    lengths = np.linalg.norm(rows, axis=1)
    if not np.allclose(lengths, 1, atol=1e-3):  # NaN fails, too
        raise ValueError(
            f"{name} has rows of length {lengths.min():.3g} to {lengths.max():.3g}, expected 1"
        )
    return rows


def _numbers(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float32)
