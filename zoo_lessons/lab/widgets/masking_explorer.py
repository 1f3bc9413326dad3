"""Masking explorer: which tokens BERT must predict, and what it reads in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import traitlets as t

from zoo_lessons.lab.widgets.base import AskingWidget, figure_png, plot_text
from zoo_lessons.lab.widgets.seeded import uniforms

_LONGEST = 64
# fate -> (how many of ten chosen tokens, by the paper; colour in the static picture)
_FATES = {"masked": (8, "#0072b2"), "random": (1, "#b34700"), "unchanged": (1, "#00795a")}


class MaskingExplorer(AskingWidget):
    """BERT's rule for masked tokens, drawn on the reader's own sentence.

    Each ordinary token is chosen with probability `rate`, each on its own. Of those chosen, 80 %
    are replaced by [MASK], 10 % by a random ordinary token, and 10 % stay as they are (Devlin et
    al., 2018, appendix A.1). The label of a chosen token is its true id; all others have -100,
    which the loss leaves out. The rule is that of `zoo_lessons.datasets.masking.mask_tokens`.

    Below the sentence, counts over all draws since the last change stand beside what is expected.

    Args:
        text: the first sentence.
        tokenize: `tokenize(text) -> tokens`, all of them in the vocabulary. Special tokens may be
            among them.
        vocabulary: the token of each id.
        rate: probability that a token is chosen, 0 to 1.
        always_mask: replace all chosen tokens by [MASK], not 80 % of them.
        draw: which random draw; the same number gives the same masks.
        mask_token: what stands for a hidden token.
        special_tokens: never chosen, and never a random replacement.

    Raises:
        ValueError: no token, more than 64, a token outside the vocabulary, or a vocabulary without
            `mask_token` or without ordinary tokens.
        traitlets.TraitError: rate or draw outside its range.
    """

    _script = "masking_explorer.js"
    _style = "masking_explorer.css"

    text = t.Unicode("").tag(sync=True)
    tokens = t.List(t.Unicode()).tag(sync=True)
    rate = t.Float(0.15, min=0.0, max=1.0).tag(sync=True)
    always_mask = t.Bool(False).tag(sync=True)
    draw = t.Int(1, min=1).tag(sync=True)
    _vocabulary = t.List(t.Unicode()).tag(sync=True)
    _special = t.List(t.Unicode()).tag(sync=True)
    _mask_token = t.Unicode("").tag(sync=True)

    def __init__(
        self,
        text: str,
        tokenize: Callable[[str], Sequence[str]],
        vocabulary: Sequence[str],
        *,
        rate: float = 0.15,
        always_mask: bool = False,
        draw: int = 1,
        mask_token: str = "[MASK]",
        special_tokens: Sequence[str] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    ) -> None:
        vocabulary = [str(token) for token in vocabulary]
        self._ids = {token: i for i, token in enumerate(vocabulary)}
        special = sorted({*special_tokens, mask_token})
        if mask_token not in self._ids:
            raise ValueError(f"the vocabulary has no {mask_token!r}")
        self._ordinary = [token for token in vocabulary if token not in special]
        if not self._ordinary:
            raise ValueError(f"all {len(vocabulary)} tokens of the vocabulary are special")
        self._tokenize = tokenize
        super().__init__(
            rate=rate,
            always_mask=always_mask,
            draw=draw,
            _vocabulary=vocabulary,
            _special=special,
            _mask_token=mask_token,
        )
        self.show_text(text)

    def show_text(self, text: str) -> None:
        """Tokenise a sentence and show it: what the text box does. Errors as in the constructor."""
        tokens = [str(token) for token in self._tokenize(text)]
        if not 1 <= len(tokens) <= _LONGEST:
            raise ValueError(f"The sentence has {len(tokens)} tokens; 1 to {_LONGEST} fit here.")
        for token in tokens:
            if token not in self._ids:
                raise ValueError(f"The token {token!r} is not in the vocabulary.")
        with self.hold_sync():
            self.text = text
            self.tokens = tokens

    def masked(self) -> tuple[list[str], list[int], list[str]]:
        """The draw on show.

        Returns:
            What the model reads; the labels (the true id, or -100); and each token's fate:
            "masked", "random", "unchanged", "special", or "" where it was not chosen.
        """
        read, labels, fates = [], [], []
        # Three numbers per token: is it chosen, what becomes of it, which random token.
        start = 3 * _LONGEST * (self.draw - 1)
        chance = uniforms(0, 3 * len(self.tokens), start).reshape(-1, 3)
        for token, (chosen, fate, other) in zip(self.tokens, chance, strict=True):
            name = "special" if token in self._special else ""
            if not name and chosen < self.rate:
                masked = self.always_mask or fate < 0.8
                name = "masked" if masked else "random" if fate < 0.9 else "unchanged"
            replacement = self._ordinary[int(other * len(self._ordinary))]
            read.append({"masked": self._mask_token, "random": replacement}.get(name, token))
            labels.append(self._ids[token] if name in _FATES else -100)
            fates.append(name)
        return read, labels, fates

    def _answer(self, content: dict) -> None:
        self.show_text(str(content["text"]))

    def static_text(self) -> str:
        read, _, fates = self.masked()
        counts = ", ".join(f"{fates.count(name)} {name}" for name in _FATES)
        ordinary = len(fates) - fates.count("special")
        return (
            f"MaskingExplorer: {' '.join(read)}; of {ordinary} ordinary tokens {counts} "
            f"(rate {self.rate:.0%})"
        )

    def static_png(self) -> bytes:
        """The sentence, what the model reads, and the labels, one column per token."""
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyBboxPatch

        read, labels, fates = self.masked()
        widths = [
            max(0.55, 0.095 * max(len(a), len(b), len(fate)) + 0.16)
            for a, b, fate in zip(self.tokens, read, fates, strict=True)
        ]
        lines, room = [[]], 0.0
        for column, width in enumerate(widths):  # wrapped like text
            if room + width > 7.3 and lines[-1]:
                lines.append([])
                room = 0.0
            lines[-1].append(column)
            room += width
        height = 0.15 + 1.1 * len(lines)
        fig = Figure(figsize=(9, height))
        axes = fig.add_axes((0, 0, 1, 1), xlim=(0, 9), ylim=(0, height))
        axes.set_axis_off()
        for number, line in enumerate(lines):
            y = height - 0.3 - 1.1 * number
            for name, drop in (("text", 0), ("model reads", 0.28), ("fate", 0.52), ("label", 0.72)):
                axes.text(1.25, y - drop, name, ha="right", va="center", fontsize=8.5, color="#555")
            x = 1.4
            for column in line:
                middle = x + widths[column] / 2
                color = _FATES.get(fates[column], (0, "black"))[1]
                if fates[column] in _FATES:
                    box = FancyBboxPatch(
                        (x + 0.04, y - 0.38),
                        widths[column] - 0.08,
                        0.2,
                        boxstyle="round,pad=0.02",
                        facecolor="none",
                        edgecolor=color,
                        linewidth=1.5,
                    )
                    axes.add_patch(box)
                for words, drop, style in (
                    (self.tokens[column], 0, {"fontsize": 9}),
                    (read[column], 0.28, {"fontsize": 9, "weight": "bold", "color": color}),
                    (fates[column], 0.52, {"fontsize": 7.5, "color": color}),
                    (str(labels[column]), 0.72, {"fontsize": 8, "color": color}),
                ):
                    axes.text(middle, y - drop, plot_text(words), ha="center", va="center", **style)
                x += widths[column]
        return figure_png(fig)
