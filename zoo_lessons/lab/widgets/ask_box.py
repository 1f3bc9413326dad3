"""Ask box: a question goes to a model, and its answer comes back as bars, passages or a text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import traitlets as t

from zoo_lessons.lab.widgets.base import AskingWidget, figure_png, plot_text


@dataclass(frozen=True)
class Answer:
    """What a function gives an `AskBox` to show. Leave out what it has not.

    Args:
        rows: (label, value) or (label, value, detail), best first. The value gives a bar's length;
            the detail stands below it and may be long, such as a passage.
        text: one text, shown above the rows.
        highlight: (start, end) of the marked part of `text`, as in `text[start:end]`.

    Raises:
        ValueError: a row has another length, a value is not a finite number, or `highlight` is not
            a part of the text.
    """

    rows: Sequence[tuple] = ()
    text: str = ""
    highlight: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) not in (2, 3):
                raise ValueError(f"a row is (label, value) or (label, value, detail), got {row!r}")
            if not abs(float(row[1])) < float("inf"):
                raise ValueError(f"the value of row {row[0]!r} must be finite, got {row[1]}")
        if self.highlight is not None:
            start, end = self.highlight
            if not 0 <= start < end <= len(self.text):
                raise ValueError(
                    f"highlight=({start}, {end}) is no part of a text of {len(self.text)} letters"
                )


class AskBox(AskingWidget):
    """A text field whose text a Python function answers, with bars, a text, or both.

    It serves fill-in-the-blank (labels and probabilities), search (passages as details) and
    question answering (a text with its answer marked).

    Args:
        answer: `answer(text) -> Answer`. A ValueError it raises is shown to the reader as it is,
            so let it say what to do: "Write [MASK] where a word is missing."
        question: asked first, at once, so that a figure stands there without a kernel. By default
            the first of `examples`.
        label: names the text field.
        button: what the button says.
        examples: questions to click.
        values: what the values are, such as "probability"; heads their column.
        value_format: how a value is written, a format such as ".1%" or ".2f".
        maximum: value of a full bar; None means the largest value of each answer. Values below 0
            have no bar.

    Raises:
        ValueError: there is neither a question nor an example, `maximum` is not above 0, or the
            first question cannot be answered.
        TypeError: `answer` returns something else than an Answer.
    """

    _script = "ask_box.js"
    _style = "ask_box.css"

    question = t.Unicode("").tag(sync=True)
    _payload = t.Dict().tag(sync=True)
    _label = t.Unicode("").tag(sync=True)
    _button = t.Unicode("").tag(sync=True)
    _examples = t.List(t.Unicode()).tag(sync=True)
    _values = t.Unicode("").tag(sync=True)

    def __init__(
        self,
        answer: Callable[[str], Answer],
        question: str = "",
        *,
        label: str = "Your question",
        button: str = "Ask",
        examples: Sequence[str] = (),
        values: str = "probability",
        value_format: str = ".1%",
        maximum: float | None = 1.0,
    ) -> None:
        examples = [str(example) for example in examples]
        question = question or next(iter(examples), "")
        if not question.strip():
            raise ValueError("an AskBox needs a question or examples to show a first answer")
        if maximum is not None and not maximum > 0:
            raise ValueError(f"maximum={maximum} must be above 0, or None")
        self._function, self._format, self._maximum = answer, value_format, maximum
        super().__init__(_label=label, _button=button, _examples=examples, _values=values)
        self.ask(question)

    @property
    def answer(self) -> Answer:
        """The answer on show."""
        return self._shown

    def ask(self, question: str) -> Answer:
        """Answer a question and show it: what the button does.

        Raises:
            ValueError: the question is blank, or what the function raises.
            TypeError: the function returns something else than an Answer.
        """
        if not question.strip():
            raise ValueError("Type a text first.")
        answer = self._function(question)
        if not isinstance(answer, Answer):
            raise TypeError(f"answer(text) must return an Answer, got {type(answer).__name__}")
        self._shown = answer
        with self.hold_sync():
            self.question = question
            self._payload = self._packed(question, answer)
        return answer

    def _answer(self, content: dict) -> None:
        self.ask(str(content["text"]))

    def _packed(self, question: str, answer: Answer) -> dict:
        start, end = answer.highlight or (len(answer.text), len(answer.text))
        return {
            "question": question,
            # Cut here, because JavaScript counts some letters as two.
            "text": [answer.text[:start], answer.text[start:end], answer.text[end:]],
            "rows": [
                {
                    "label": str(label),
                    "share": self._share(float(value), answer),
                    "value": format(float(value), self._format),
                    "detail": str(detail[0]) if detail else "",
                }
                for label, value, *detail in answer.rows
            ],
        }

    def _share(self, value: float, answer: Answer) -> float:
        full = self._maximum or max(float(row[1]) for row in answer.rows)
        return min(1.0, max(0.0, value / full)) if full > 0 else 0.0

    def static_text(self) -> str:
        # No values: a notebook's stored text is compared on other processors.
        shown = self._payload
        parts = [f"AskBox: “{shown['question']}”"]
        before, marked, after = shown["text"]
        if marked:
            parts.append(f"answer “{marked}”")
        elif before:
            parts.append(before)
        if shown["rows"]:
            parts.append(f"by {self._values}: {', '.join(row['label'] for row in shown['rows'])}")
        return "; ".join(parts)

    def static_png(self) -> bytes:
        """The question, the text and the bars of the answer on show."""
        from matplotlib.figure import Figure

        shown = self._payload
        rows = shown["rows"]
        wrapped = [textwrap.wrap(row["detail"], 88) for row in rows]
        before, marked, after = shown["text"]
        text = textwrap.wrap(before + (f"»{marked}«" if marked else "") + after, 100)
        question = textwrap.wrap(f"{self._label}: {shown['question']}", 88)
        line = 0.2  # inches
        head = line * (len(question) + len(text)) + 0.35
        heights = [0.3 + 0.19 * len(lines) for lines in wrapped]
        height = head + sum(heights) + 0.2
        fig = Figure(figsize=(9, height))
        place = height - 0.25
        for content, weight in ((question, "bold"), (text, "normal")):
            for words in content:
                fig.text(0.2 / 9, place / height, plot_text(words), weight=weight, va="center")
                place -= line
        place -= 0.1
        axes = fig.add_axes((0, 0, 1, 1), xlim=(0, 9), ylim=(0, height))
        axes.set_axis_off()
        for row, lines, room in zip(rows, wrapped, heights, strict=True):
            label = textwrap.shorten(row["label"], 26, placeholder="…")
            axes.text(2.1, place, plot_text(label), ha="right", va="center")
            axes.barh(place, 5.6, 0.17, 2.25, color="#ececec")
            axes.barh(place, 5.6 * row["share"], 0.17, 2.25, color="#0072b2")
            axes.text(7.95, place, plot_text(row["value"]), va="center")
            for i, words in enumerate(lines):
                axes.text(2.25, place - 0.23 - 0.19 * i, plot_text(words), size=8.5, va="center")
            place -= room
        return figure_png(fig)
