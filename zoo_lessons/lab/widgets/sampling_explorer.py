"""Sampling explorer: a language model's next token under temperature, top-k and top-p."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import AskingWidget, figure_png, plot_text

_SHOWN = 15  # tokens with a bar of their own


class SamplingExplorer(AskingWidget):
    """Write a text with a language model, token by token, and see each next-token distribution.

    An outline is the model's probability, the fill what temperature, top-k and top-p leave of it,
    in this order, as in `zoo_lessons.generation.next_token`. The reader types a prompt, moves the
    sliders, and appends tokens: a drawn one, the likeliest, or any by its bar. Draws are seeded, so
    the same clicks give the same text.

    Logits go to the script once per token; what the sliders do needs no kernel.

    Args:
        prompt: the first text.
        vocabulary: the text of each token by its id, leading spaces included, or its bytes.
        next_logits: `next_logits(ids) -> logits` of the token after `ids`: numbers of shape
            (vocab_size,), or with axes of length 1 in front. -inf forbids a token.
        encode: `encode(text) -> ids`.
        byte_level: the vocabulary is written in the byte alphabet of GPT-2 ("Ġcat"), as
            `tokenizers` gives it; it is translated back.
        temperature: 0 (greedy) to 2.
        top_k: how many tokens stay; None keeps all.
        top_p: the share of probability that stays; None keeps all.
        seed: of the draws.

    A ValueError of the two functions, such as "the text is longer than 64 tokens", is shown to the
    reader as it is, and the text stays.

    Raises:
        ValueError: the prompt has no tokens, an id is outside the vocabulary, or the logits have
            the wrong size, are NaN or +inf, or forbid all tokens.
        traitlets.TraitError: temperature, top_k or top_p outside its range.
    """

    _script = "sampling_explorer.js"
    _style = "sampling_explorer.css"

    temperature = t.Float(1.0, min=0.0, max=2.0).tag(sync=True)
    top_k = t.Int(None, min=1, allow_none=True).tag(sync=True)
    top_p = t.Float(None, min=0.01, max=1.0, allow_none=True).tag(sync=True)
    seed = t.Int(0).tag(sync=True)
    prompt = t.Unicode("").tag(sync=True)
    _labels = t.List(t.Unicode()).tag(sync=True)  # of all tokens, as they are shown
    _payload = t.Dict().tag(sync=True)

    def __init__(
        self,
        prompt: str,
        vocabulary: Sequence[str | bytes],
        next_logits: Callable[[list[int]], Any],
        encode: Callable[[str], Sequence[int]],
        *,
        byte_level: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> None:
        self._pieces = [_piece(token, byte_level) for token in vocabulary]
        self._next_logits, self._encode = next_logits, encode
        super().__init__(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            _labels=[token_label(piece) for piece in self._pieces],
        )
        self.start(prompt)

    @property
    def ids(self) -> list[int]:
        """The prompt's tokens and those appended."""
        return self._prompt_ids + [token["id"] for token in self._tokens]

    @property
    def text(self) -> str:
        """The prompt and what was appended to it."""
        return self.prompt + "".join(self._texts())

    @property
    def logits(self) -> np.ndarray:
        """The model's logits for the next token, float32 (vocab_size,)."""
        return self._logits[-1]

    def start(self, prompt: str) -> None:
        """Begin a new text; what was appended is gone. Errors as in the constructor."""
        ids = [int(token) for token in self._encode(prompt)]
        if not ids:
            raise ValueError("The prompt has no tokens: type at least one word.")
        for token in ids:
            self._require_id(token)
        logits = self._checked(self._next_logits(list(ids)))
        self._prompt_ids, self._tokens, self._logits, self._draws = ids, [], [logits], 0
        with self.hold_sync():
            self.prompt = prompt
            self._show()

    def append(self, token: int) -> None:
        """Append a token to the text. Errors as in the constructor."""
        self._require_id(token)
        model, kept = self.probabilities()
        logits = self._checked(self._next_logits([*self.ids, token]))
        shares = {"model": float(model[token]), "kept": float(kept[token])}
        self._tokens.append({"id": token, "label": self._labels[token], **shares})
        self._logits.append(logits)
        self._show()

    def undo(self) -> None:
        """Take back the last appended token, if there is one."""
        if self._tokens:
            self._tokens.pop()
            self._logits.pop()
            self._show()

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """The next token's probabilities: the model's own, and after temperature, top-k and top-p.

        Returns:
            Two float64 arrays (vocab_size,).
        """
        import torch

        from zoo_lessons.generation import keep_top_k, keep_top_p

        logits = torch.from_numpy(self.logits).double()
        model = logits.softmax(-1).numpy()
        if self.temperature == 0:
            return model, np.eye(len(model))[model.argmax()]
        filtered = logits / self.temperature
        if self.top_k is not None:
            filtered = keep_top_k(filtered, self.top_k)
        if self.top_p is not None:
            filtered = keep_top_p(filtered, self.top_p)
        return model, filtered.softmax(-1).numpy()

    def _answer(self, content: dict) -> None:
        if content["kind"] == "prompt":
            self.start(str(content["text"]))
        elif content["kind"] == "undo":
            self.undo()
        elif content["kind"] == "append":
            draws, self._draws = self._draws, int(content["draws"])
            try:
                self.append(int(content["token"]))
            except Exception:
                self._draws = draws
                raise
        else:
            raise ValueError(f"unknown request {content['kind']!r}")

    def _require_id(self, token: int) -> None:
        if not 0 <= token < len(self._pieces):
            raise ValueError(f"token {token} is outside the vocabulary of {len(self._pieces)}")

    def _checked(self, logits: Any) -> np.ndarray:
        if hasattr(logits, "detach"):
            logits = logits.detach().float().cpu().numpy()
        array = np.asarray(logits, dtype=np.float32)
        if array.size != len(self._pieces) or array.shape[-1:] != (array.size,):
            raise ValueError(
                f"next_logits must return shape ({len(self._pieces)},), one logit per token of "
                f"the vocabulary; got {array.shape}"
            )
        array = array.reshape(-1)
        if np.isnan(array).any() or np.isposinf(array).any() or np.isneginf(array).all():
            raise ValueError("the logits are NaN or +inf, or forbid all tokens")
        return np.ascontiguousarray(array, dtype="<f4")

    def _texts(self) -> list[str]:
        """What each appended token adds to the text. A letter's bytes may be split over tokens:
        it appears with the last of them."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return [decoder.decode(self._pieces[token["id"]]) for token in self._tokens]

    def _show(self) -> None:
        texts = self._texts()
        tokens = [{**token, "text": text} for token, text in zip(self._tokens, texts, strict=True)]
        self._payload = {"tokens": tokens, "draws": self._draws, "logits": self.logits.tobytes()}

    def _settings(self) -> str:
        return (
            f"temperature {self.temperature:g}, top-k {self.top_k or 'off'}, "
            f"top-p {self.top_p or 'off'}"
        )

    def _ranked(self) -> list[int]:
        return np.argsort(-self.logits, kind="stable")[:_SHOWN].tolist()

    def static_text(self) -> str:
        # No figures: a notebook's stored text is compared on other processors.
        likeliest = ", ".join(self._labels[i] for i in self._ranked()[:3])
        return (
            f"SamplingExplorer: after “{self.text}” the likeliest of {len(self._labels):,} tokens "
            f"are {likeliest}; {self._settings()}"
        )

    def static_png(self) -> bytes:
        """The likeliest tokens: the model's probability (outline), and after filtering (fill)."""
        from matplotlib.figure import Figure

        model, kept = self.probabilities()
        shown = self._ranked()
        rest = len(model) - len(shown)
        names = [plot_text(self._labels[i]) for i in shown]
        bars, fills = model[shown], kept[shown]
        if rest:
            names.append(f"all {rest:,} others")
            bars = np.append(bars, max(0.0, 1 - bars.sum()))
            fills = np.append(fills, max(0.0, 1 - fills.sum()))
        places = np.arange(len(names))
        fig = Figure(figsize=(8, 0.8 + 0.27 * len(names)), layout="constrained")
        axes = fig.subplots()
        axes.barh(places, fills, 0.55, color="#0072b2", label=self._settings())
        axes.barh(places, bars, 0.8, fill=False, edgecolor="black", label="the model itself")
        for place, bar, fill in zip(places, bars, fills, strict=True):
            note = f"{bar:.1%} → {fill:.1%}" if fill > 0 else f"{bar:.1%}, cut"
            axes.annotate(
                note,
                (max(bar, fill), place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.2 * max(bars.max(), fills.max()))
        axes.set_xlabel("probability")
        title = self.text if len(self.text) <= 60 else "…" + self.text[-59:]
        axes.set_title(plot_text(f"Next token after “{title}”".replace("\n", "⏎")), fontsize=11)
        fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        return figure_png(fig)


def _piece(token: str | bytes, byte_level: bool) -> bytes:
    if isinstance(token, bytes):
        return token
    if not byte_level:
        return token.encode()
    # An added token, such as one with a letter outside the alphabet, is plain text.
    if not all(letter in _BYTES for letter in token):
        return token.encode()
    return bytes(_BYTES[letter] for letter in token)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letter -> byte: printable bytes are themselves, the others follow from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_alphabet()
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", " ": "␣"}


def token_label(piece: bytes) -> str:
    """A token as one visible line: ␣ for a space, \\n for a new line, \\xe2 for a lone byte."""
    shown = []
    for letter in piece.decode("utf-8", "surrogateescape"):
        if "\udc80" <= letter <= "\udcff":  # a byte that is no letter by itself
            shown.append(f"\\x{ord(letter) - 0xDC00:02x}")
        elif letter in _ESCAPES:
            shown.append(_ESCAPES[letter])
        elif letter.isprintable():
            shown.append(letter)
        else:
            shown.append(letter.encode("ascii", "backslashreplace").decode())
    return "".join(shown) or "(empty)"
