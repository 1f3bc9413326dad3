"""Attention explorer: all heads of a model, then one head, then one number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.attention_image import ImageTokens, picture_on_image
from zoo_lessons.lab.widgets.base import AskingWidget, figure_png, plot_text

Attend = Callable[[str], tuple]

# Half-precision softmax rows miss 1 by up to about this much.
_ROW_SUM_TOLERANCE = 0.02
_SPECIAL = ("as is", "hide specials", "hide first")
_COLORS = {"cividis": "cividis", "viridis": "viridis", "greys": "Greys"}  # ours: matplotlib's


class AttentionExplorer(AskingWidget):
    """Look through the attention maps of a model, down to one weight.

    The overview shows every head. Click one, or use the arrow keys, to open it. In the open head,
    rows are queries and columns are keys; a click or Enter locks a row, whose weights then stay as
    bars while the pointer, the head or the layer changes.

    With an image, the tokens are its patches: choose a query on the image, by pointer or arrow
    keys, and see over the image where each head looks from there.

    Args:
        attention: weights that sum to 1 over the keys (rows of zeros are allowed). One of
            - an array or tensor (layers, heads, queries, keys), with a batch of 1 after the layers
              if you like, or fewer axes: (heads, queries, keys) or (queries, keys);
            - a list with one array per layer, (heads, queries, keys) or (1, heads, queries, keys),
              as `transformers` returns for `output_attentions=True`;
            - the maps that `zoo_lessons.layers.attention.record_attention` collects.
        tokens: one string per key; with an image, none.
        query_tokens: one string per query. Needed when queries are not the keys (cross-attention).
        layer, head: what is open at first, counted from 0. Both follow the reader's choice, so an
            exercise can read them back, as it can `locked`, the locked query (-1: none). On an
            image, head -1 is the mean over heads, and the layer after the last is `rollout`.
        names: one name per layer, shown instead of its number.
        on_text: `on_text(sentence) -> (attention, tokens)` or `(attention, tokens, query_tokens)`.
            With it the widget has a text box; what the reader types goes through this function.
            An exception it raises is shown in the widget as one sentence.
        text: what the text box holds at first.
        special_tokens: how to start: "as is", "hide specials" ([CLS], [SEP] and their like) or
            "hide first". Hidden tokens leave the picture; the rest can be renormalised.
        color_map: "cividis", "viridis" or "greys".
        image: what the model saw, (height, width, 3) or (height, width), from 0 to 1. The rest of
            the arguments are for images only.
        grid: rows and columns of patches; without it, those of square patches.
        class_token: whether the first token is a class token, and the patches follow.
        rollout: one more map (tokens, tokens), or (1, tokens, tokens), whose rows sum to 1, such as
            attention rollout; it becomes the last entry of the layers.
        query: the chosen token at first. 0 is the class token, if there is one.
        opacity: of the weights over the image, 0 to 1.

    Raises:
        TypeError: `attention` is none of the forms above.
        ValueError: the shapes disagree with each other, with the tokens or with the image, weights
            are negative or not finite, or a row does not sum to 1.
    """

    _script = ("attention_image.js", "attention_explorer.js")
    _style = "attention_explorer.css"

    # One trait for all data, so that a new sentence replaces everything in one step.
    _payload = t.Dict().tag(sync=True)
    layer = t.Int(0).tag(sync=True)
    head = t.Int(0).tag(sync=True)
    locked = t.Int(-1).tag(sync=True)
    query = t.Int(0).tag(sync=True)
    opacity = t.Float(0.75, min=0.0, max=1.0).tag(sync=True)
    text = t.Unicode("").tag(sync=True)
    special_tokens = t.Enum(_SPECIAL, "as is").tag(sync=True)
    renormalise = t.Bool(True).tag(sync=True)
    scale_to_maximum = t.Bool(False).tag(sync=True)
    color_map = t.Enum(list(_COLORS), "cividis").tag(sync=True)
    _has_text_box = t.Bool(False).tag(sync=True)

    def __init__(
        self,
        attention: Any,
        tokens: Sequence[str] | None = None,
        query_tokens: Sequence[str] | None = None,
        *,
        layer: int = 0,
        head: int = 0,
        names: Sequence[str] | None = None,
        on_text: Attend | None = None,
        text: str = "",
        special_tokens: str = "as is",
        color_map: str = "cividis",
        image: Any = None,
        grid: tuple[int, int] | None = None,
        class_token: bool = True,
        rollout: Any = None,
        query: int = 0,
        opacity: float = 0.75,
    ) -> None:
        self._image = self._rollout = None
        if image is not None:
            if tokens is not None or query_tokens is not None or on_text is not None:
                raise ValueError("with an image, leave out tokens, query_tokens and on_text")
            attention = attention_array(attention)
            self._image = ImageTokens.of(image, attention.shape, grid, class_token)
            self._rollout = _rollout(rollout, attention.shape)
            tokens = self._image.names()
        elif grid is not None or rollout is not None:
            raise ValueError("grid and rollout need an image")
        weights, tokens, query_tokens, names = _checked(attention, tokens, query_tokens, names)
        self._weights, self.tokens, self.query_tokens = weights, tokens, query_tokens
        self._names, self._on_text = names, on_text
        for name, value in {"layer": layer, "head": head, "query": query}.items():
            low, high = self._range(name)
            if not low <= value < high:
                raise ValueError(f"{name}={value} is outside {low}..{high - 1}")
        super().__init__(
            _payload=self._packed(),
            layer=layer,
            head=head,
            query=query,
            text=text,
            special_tokens=special_tokens,
            # Of hundreds of patches each gets little: on the full scale all would look alike.
            scale_to_maximum=image is not None,
            opacity=opacity,
            color_map=color_map,
            _has_text_box=on_text is not None,
        )

    @property
    def weights(self) -> np.ndarray:
        """All weights, float32 (layers, heads, queries, keys)."""
        return self._weights

    def update(
        self,
        attention: Any,
        tokens: Sequence[str] | None = None,
        query_tokens: Sequence[str] | None = None,
        *,
        names: Sequence[str] | None = None,
        image: Any = None,
        rollout: Any = None,
    ) -> None:
        """Show other maps, of any shape. Arguments and errors as in the constructor.

        An explorer on an image stays on images: on the same one, if no other is given, and the grid
        of patches stays.
        """
        shown, extra = self._image, None
        if shown is not None:
            if tokens is not None or query_tokens is not None:
                raise ValueError("with an image, leave out tokens and query_tokens")
            attention = attention_array(attention)
            pixels = shown.pixels if image is None else image
            shown = ImageTokens.of(pixels, attention.shape, shown.grid, shown.class_token)
            extra = _rollout(rollout, attention.shape)
            tokens = shown.names()
        elif image is not None or rollout is not None:
            raise ValueError("this explorer shows text; make another one for an image")
        weights, tokens, query_tokens, names = _checked(attention, tokens, query_tokens, names)
        with self.hold_sync():
            self.locked = -1
            self._weights, self.tokens, self.query_tokens = weights, tokens, query_tokens
            self._names, self._image, self._rollout = names, shown, extra
            for name in ("layer", "head", "query"):
                setattr(self, name, min(getattr(self, name), self._range(name)[1] - 1))
            self._payload = self._packed()

    def show_text(self, sentence: str) -> None:
        """Run `on_text` on a sentence and show what it returns: what the text box does.

        Raises:
            ValueError: the sentence is empty, or the widget was made without `on_text`.
        """
        if self._on_text is None:
            raise ValueError("this explorer has no on_text function, so it cannot read a sentence")
        if not sentence.strip():
            raise ValueError("Type a sentence first.")
        self.update(*self._on_text(sentence))
        self.text = sentence

    def _answer(self, content: dict) -> None:
        self.show_text(str(content["text"]))

    def _range(self, name: str) -> tuple[int, int]:
        """The lowest value of a trait, and the one after the highest."""
        layers, heads, queries, _ = self._weights.shape
        return {
            "layer": (0, layers + (self._rollout is not None)),
            "head": (0 if self._image is None else -1, heads),
            "locked": (-1, queries),
            "query": (0, queries),
        }[name]

    @t.validate("layer", "head", "locked", "query")
    def _in_range(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        low, high = self._range(name)
        if not low <= value < high:
            raise t.TraitError(f"{name}={value} is outside {low}..{high - 1}")
        return value

    def _packed(self) -> dict:
        layers, heads, queries, keys = self._weights.shape
        payload = {
            "weights": _codes(self._weights),
            "layers": layers,
            "heads": heads,
            "queries": queries,
            "keys": keys,
            "tokens": self.tokens,
            "query_tokens": self.query_tokens,
            "same": self.tokens == self.query_tokens,
            "names": self._names,
        }
        if self._image is not None:
            payload["image"] = self._image.packed()
            payload["rollout"] = None if self._rollout is None else _codes(self._rollout)
        return payload

    def shown(self) -> np.ndarray:
        """On an image: the weights on show, from the chosen query, float32 (tokens,).

        Raises:
            ValueError: the explorer shows text.
        """
        if self._image is None:
            raise ValueError("this explorer shows text; read its weights instead")
        if self.layer == len(self._weights):
            return self._rollout[self.query]
        heads = self._weights[self.layer, :, self.query]
        return heads.mean(axis=0) if self.head < 0 else heads[self.head]

    def static_text(self) -> str:
        layers, heads, queries, keys = self._weights.shape
        if self._image is not None:
            rows, columns = self._image.grid
            extra = " and a class token" if self._image.class_token else ""
            return (
                f"AttentionExplorer: {layers} layers x {heads} heads on an image of {rows} x "
                f"{columns} patches{extra}; showing {self.view_title()}"
            )
        return (
            f"AttentionExplorer: {layers} layers x {heads} heads, {queries} queries x {keys} keys; "
            f"showing {self._layer_title()}, head {self.head}"
        )

    def _layer_title(self) -> str:
        return self._names[self.layer] if self._names else f"layer {self.layer}"

    def view_title(self) -> str:
        """On an image: what is on show, such as "layer 3, head 2, from the class token"."""
        name = self.tokens[self.query]
        if self.layer == len(self._weights):
            return f"rollout, from {name}"
        head = "mean of heads" if self.head < 0 else f"head {self.head}"
        return f"{self._layer_title()}, {head}, from {name}"

    def static_png(self) -> bytes:
        """Overview of all heads (left) and the open head with its tokens (right)."""
        from matplotlib.figure import Figure

        if self._image is not None:
            color_map = _COLORS[self.color_map]
            return picture_on_image(self._image, self.shown(), self.query, color_map, self)
        layers, heads, queries, keys = self._weights.shape
        fig = Figure(figsize=(11, 5.2), layout="constrained")
        left, right = fig.subplots(1, 2, width_ratios=(1, 1.15))
        style = dict(cmap=_COLORS[self.color_map], vmin=0, vmax=1, interpolation="nearest")
        left.imshow(_mosaic(self._weights), **style)
        left.set_title("All heads", fontsize=11)
        left.set_xlabel("head")
        left.set_ylabel("layer")
        left.set_xticks((np.arange(heads) + 0.5) * _TILE - 0.5, range(heads))
        left.set_yticks((np.arange(layers) + 0.5) * _TILE - 0.5, self._names or range(layers))
        left.tick_params(length=0, labelsize=8)
        corner = (self.head * _TILE - 0.5, self.layer * _TILE - 0.5)
        left.add_patch(_frame(corner, _TILE - 1, _TILE - 1))

        image = right.imshow(self._weights[self.layer, self.head], **style)
        title = self._layer_title()
        right.set_title(f"{title[:1].upper()}{title[1:]}, head {self.head}", fontsize=11)
        right.set_xlabel("key (looked at)")
        right.set_ylabel("query (looks)")
        size = float(np.clip(300 / max(queries, keys), 4, 9))
        right.set_xticks(range(keys), list(map(plot_text, self.tokens)), rotation=90, fontsize=size)
        right.set_yticks(range(queries), list(map(plot_text, self.query_tokens)), fontsize=size)
        if self.locked >= 0:
            right.add_patch(_frame((-0.5, self.locked - 0.5), keys, 1))
        for axes in (left, right):
            axes.set_anchor("N")
        fig.colorbar(image, ax=right, label="weight", shrink=0.8)
        return figure_png(fig)


_TILE = 33  # pixels of one head in the static overview, 1 of them a gap


def _frame(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor="#d55e00", linewidth=2)


def _mosaic(weights: np.ndarray) -> np.ndarray:
    """(layers, heads, queries, keys) -> one picture; NaN, drawn white, separates the heads.

    Long sequences are reduced by maximum, because averaging would wash out one-pixel diagonals.
    """
    layers, heads, queries, keys = weights.shape
    side = _TILE - 1

    def reduced(axis: int, values: np.ndarray) -> np.ndarray:
        length = values.shape[axis]
        if length > side:
            starts = np.arange(side) * length // side
            return np.maximum.reduceat(values, starts, axis=axis)
        return np.take(values, np.arange(side) * length // side, axis=axis)

    tiles = reduced(3, reduced(2, weights))  # (layers, heads, side, side)
    picture = np.full((layers, heads, _TILE, _TILE), np.nan, np.float32)
    picture[:, :, :side, :side] = tiles
    return picture.transpose(0, 2, 1, 3).reshape(layers * _TILE, heads * _TILE)


def attention_array(attention: Any) -> np.ndarray:
    """Any accepted form of attention maps as one checked float32 array.

    Args:
        attention: as in `AttentionExplorer`.

    Returns:
        float32 (layers, heads, queries, keys).

    Raises:
        TypeError, ValueError: as in `AttentionExplorer`.
    """
    if hasattr(attention, "shape"):
        array = _array(attention)
        if not 2 <= array.ndim <= 5:
            raise ValueError(
                "attention must have shape (layers, heads, queries, keys), with a batch of 1 "
                f"after the layers if you like; got {array.shape}"
            )
        if array.ndim == 5:
            array = np.stack([_without_batch(layer, "attention") for layer in array])
        array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    elif isinstance(attention, Sequence):
        if len(attention) == 0:
            raise ValueError(
                "attention holds no maps; a transformers model returns none unless it was loaded "
                'with attn_implementation="eager"'
            )
        layers = []
        for index, layer in enumerate(attention):
            what = getattr(layer, "name", f"layer {index}")
            layers.append(_without_batch(_array(getattr(layer, "weights", layer)), what))
        shapes = {layer.shape for layer in layers}
        if len(shapes) > 1:
            raise ValueError(
                f"all maps must have one shape (heads, queries, keys), got {sorted(shapes)}; "
                "pass self-attention and cross-attention to two explorers"
            )
        array = np.stack(layers)
    else:
        raise TypeError(
            "attention must be an array, a tensor or a list with one map per layer, "
            f"got {type(attention).__name__}"
        )
    if 0 in array.shape:
        raise ValueError(f"attention has an empty axis: {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("attention holds NaN or infinite weights")
    if array.min() < 0:
        raise ValueError(
            f"attention weights must not be negative, found {array.min():.3g}; "
            "pass the weights after the softmax, not the scores"
        )
    sums = array.sum(-1)
    wrong = (np.abs(sums - 1) > _ROW_SUM_TOLERANCE) & (sums != 0)
    if wrong.any():
        layer, head, query = np.argwhere(wrong)[0]
        raise ValueError(
            f"each row of attention must sum to 1 over the keys (or be all zero): layer {layer}, "
            f"head {head}, query {query} sums to {sums[layer, head, query]:.3g}"
        )
    return array


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor, perhaps bfloat16, which numpy does not know
        value = value.detach().float().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"attention must hold numbers, got dtype {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.float32)


def _without_batch(array: np.ndarray, what: str) -> np.ndarray:
    if array.ndim == 4:
        if array.shape[0] != 1:
            raise ValueError(
                f"{what} has a batch of {array.shape[0]} (shape {array.shape}); "
                "pick one example, such as weights[:1]"
            )
        array = array[0]
    if array.ndim != 3:
        raise ValueError(
            f"{what} must have shape (heads, queries, keys) or (1, heads, queries, keys), "
            f"got {array.shape}"
        )
    return array


def _codes(weights: np.ndarray) -> bytes:
    """Weights as 16-bit square roots. They keep four decimals at 1 and far more near 0, where
    hiding a sink and renormalising would otherwise magnify rounding; half the size of float32."""
    return np.rint(np.sqrt(weights.clip(0, 1)) * 65535).astype("<u2").tobytes()


def _rollout(rollout: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """The extra map as float32 (tokens, tokens)."""
    if rollout is None:
        return None
    array = attention_array(rollout)
    if array.shape != (1, 1, *shape[2:]):
        raise ValueError(
            f"rollout has shape {tuple(rollout.shape)}, expected {shape[2:]} or {(1, *shape[2:])}"
        )
    return array[0, 0]


def _checked(
    attention: Any,
    tokens: Sequence[str] | None,
    query_tokens: Sequence[str] | None,
    names: Sequence[str] | None,
) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    array = attention_array(attention)
    layers, _, queries, keys = array.shape
    if tokens is None:
        raise ValueError(f"tokens are needed, one string for each of {keys} keys, or an image")
    tokens = [str(token) for token in tokens]
    if len(tokens) != keys:
        raise ValueError(f"attention has {keys} keys but tokens has {len(tokens)} entries")
    if query_tokens is None and queries != keys:
        raise ValueError(
            f"attention has {queries} queries and {keys} keys, so query_tokens is needed too"
        )
    query_tokens = tokens if query_tokens is None else [str(token) for token in query_tokens]
    if len(query_tokens) != queries:
        raise ValueError(
            f"attention has {queries} queries but query_tokens has {len(query_tokens)} entries"
        )
    names = [str(name) for name in names] if names is not None else []
    if names and len(names) != layers:
        raise ValueError(f"attention has {layers} layers but names has {len(names)} entries")
    return array, tokens, query_tokens, names
