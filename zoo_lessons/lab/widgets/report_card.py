"""Report card: the claims, to be searched by part, verdict and word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import traitlets
from matplotlib.figure import Figure

from zoo_lessons.lab.curriculum import PARTS, lesson
from zoo_lessons.lab.tables import VERDICT_SIGNS, fits_claim
from zoo_lessons.lab.widgets.base import ZooWidget, figure_png

# As the signs: full, half, a cross, empty; and colours that colour-blind readers can tell apart.
_MARKS = {
    "reproduced": {"marker": "o", "color": "#0072b2"},
    "partly": {"marker": "o", "color": "#0072b2", "fillstyle": "left", "mfcalt": "white"},
    "the article is wrong": {"marker": "X", "color": "#b34700"},
    "not measurable here": {"marker": "o", "color": "#555555", "markerfacecolor": "white"},
}
_SENT = ("claim", "says", "verdict", "ours", "explanation")


class ReportCard(ZooWidget):
    """Claims and verdicts, filtered while one chooses; each opens to its figure and its reason.

    Args:
        claims: what `load_claim` gives, one for each claim.
        part: show only claims that a lesson of this part shows, "I" to "IV"; "" shows all.
        verdict: show only claims with this verdict; "" shows all.
        word: show only claims whose text, figure or reason holds it, in capitals or not.

    Raises:
        ValueError: no claim is given.
        traitlets.TraitError: there is no such part or verdict.
    """

    _script = "report_card.js"
    _style = "report_card.css"

    part = traitlets.Enum(("", *PARTS), "").tag(sync=True)
    verdict = traitlets.Enum(("", *VERDICT_SIGNS), "").tag(sync=True)
    word = traitlets.Unicode("").tag(sync=True)
    _claims = traitlets.List().tag(sync=True)
    _parts = traitlets.Dict(dict(PARTS), read_only=True).tag(sync=True)
    _signs = traitlets.Dict(dict(VERDICT_SIGNS), read_only=True).tag(sync=True)

    def __init__(self, claims: Iterable[Mapping[str, Any]], **choice: str) -> None:
        sent = []
        for claim in claims:
            shown = lesson(claim["cell"][:2])
            where = {"part": shown.part, "lesson": f"{shown.number} {shown.title}"}
            sent.append({**{name: claim[name] for name in _SENT}, **where, "cell": claim["cell"]})
        if not sent:
            raise ValueError("a report card needs at least one claim, got none")
        super().__init__(_claims=sent, **choice)

    def chosen(self) -> list[str]:
        """Ids of the claims that are shown."""
        choice = {"part": self.part, "verdict": self.verdict, "word": self.word}
        return [claim["claim"] for claim in self._claims if fits_claim(claim, **choice)]

    def static_text(self) -> str:
        chosen = set(self.chosen())
        counts = Counter(each["verdict"] for each in self._claims if each["claim"] in chosen)
        found = ", ".join(f"{counts[name]} {name}" for name in VERDICT_SIGNS if counts[name])
        return f"ReportCard: {len(chosen)} of {len(self._claims)} claims: {found or 'none'}"

    def static_png(self) -> bytes:
        """A mark for each claim, in the row of its part; what is filtered out is faint."""
        chosen = set(self.chosen())
        rows = {part: [c for c in self._claims if c["part"] == part] for part in PARTS}
        fig = Figure(figsize=(8, 3.2), layout="constrained")
        axes = fig.subplots()
        for row, claims in enumerate(rows.values()):
            for column, claim in enumerate(claims):
                alpha = 1.0 if claim["claim"] in chosen else 0.2
                mark = _MARKS[claim["verdict"]]
                axes.plot(column, row, **mark, markersize=13, alpha=alpha, linestyle="")
                axes.text(column, row + 0.42, claim["claim"], ha="center", size=8, alpha=alpha)
        for name, mark in _MARKS.items():
            axes.plot([], [], **mark, markersize=9, linestyle="", label=name)
        axes.set_yticks(range(len(PARTS)), [f"{part}, {name}" for part, name in PARTS.items()])
        axes.set_xticks([])
        axes.set_ylim(len(PARTS) - 0.3, -0.6)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_title(
            f"{len(chosen)} of {len(self._claims)} claims, by part of the course", size=10
        )
        fig.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
        return figure_png(fig)
