"""What a notebook renders as Markdown: routes, notation, glossary, the zoo measured, verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from IPython.display import Markdown

from zoo_lessons.claims import Topic
from zoo_lessons.lab.anchors import cell_link, heading_anchor, headings, percent_markdown
from zoo_lessons.lab.curriculum import GLOSSARY, LESSONS, NOTATION, PARTS, ROUTES, lesson
from zoo_lessons.paths import repository_root


def routes() -> Markdown:
    """Ways through the course: for whom, how long, which lessons in which order."""
    rows = []
    for route in ROUTES:
        lessons = [_link(stop.lesson) for stop in route.stops]
        whole = len(route.stops) == len(LESSONS)
        order = f"{lessons[0]} to {lessons[-1]}" if whole else " · ".join(lessons)
        rows.append((f"**{route.name}**", route.purpose, f"{route.minutes / 60:.0f} h", order))
    return _table(("Route", "For whom", "Time", "Lessons"), rows)


def notation() -> Markdown:
    """Every symbol of the formulas, with the name and shape it has in the code."""
    rows = [(f"${s.symbol}$", s.meaning, f"`{s.code}`", s.shape) for s in NOTATION]
    return _table(("Symbol", "Meaning", "In code", "Shape"), rows)


def glossary() -> Markdown:
    """Every term of the course, in alphabetical order, with the lesson that introduces it."""
    rows = [
        (f"**{term}**", entry.definition, _link(entry.lesson))
        for term, entry in sorted(GLOSSARY.items(), key=lambda item: item[0].lower())
    ]
    return _table(("Term", "Meaning", "Lesson"), rows)


def model_table(record: Mapping[str, Any], models: Sequence[str] | None = None) -> Markdown:
    """Our models beside those of `transformers`, as measured.

    Args:
        record: what `load_record("model_table")`, or "vision_model_table", gives.
        models: the rows to show, by the beginning of the model's name, such as "GPT-2" or "BERT";
            None shows all.

    Raises:
        ValueError: no row begins with one of `models`.
    """
    figures, machine = record["figures"], record["machine"]
    rows = figures["rows"]
    names = [row["model"] for row in rows]
    for begin in models or ():
        if not any(name.startswith(begin) for name in names):
            raise ValueError(f"no model begins with {begin!r}; there are: {', '.join(names)}")
    if models is not None:
        rows = [row for row in rows if row["model"].startswith(tuple(models))]
    head = (
        "Model",
        "In `transformers`",
        "Difference, float64",
        "Difference, float32",
        "Lines of code, ours + shared layers / theirs",
        "Parameters, counted (published)",
        "Time, ours / theirs (95 %)",
        "Memory, ours / theirs (MiB)",
    )
    note = (
        "Difference: the largest, relative to the largest output, with random weights. Time: one "
        f"forward pass over {figures['batch']} {figures['examples']} at the published size, if its "
        "row does not say otherwise; memory: the most that PyTorch allocates in it, beyond the "
        "weights. "
        f"{machine['device']}, {machine['threads']} threads, "
        f"torch {machine['torch']}, transformers {figures['transformers']}, {record['date']}."
    )
    return Markdown(f"{_table(head, [_model_row(row) for row in rows]).data}\n\n{note}")


def show_claim(claim: Mapping[str, Any]) -> Markdown:
    """A claim, our verdict on it, the figures behind it, and how they were made.

    Args:
        claim: what `load_claim("C06")` gives.
    """
    machine = claim["machine"]
    parts = [
        f"**Claim {claim['claim']}.** {claim['says']}",
        f"**Verdict: {claim['verdict']}.** {_sentence(claim['ours'])}",
        _sentence(claim["explanation"]),
        f"<small>Recorded by `{claim['command']}` on {claim['date']}: "
        f"{_device(machine)}, torch "
        f"{machine['torch']}.</small>",
    ]
    return Markdown("\n>\n".join(f"> {part}" for part in parts if part))


VERDICT_SIGNS = {
    "reproduced": "●",
    "partly": "◐",
    "the article is wrong": "✕",
    "not measurable here": "○",
}
"""A sign for each verdict, told apart by shape."""
NO_BREAK_HYPHEN = "\N{NON-BREAKING HYPHEN}"


def report_card(
    claims: Iterable[Mapping[str, Any]], *, part: str = "", verdict: str = "", word: str = ""
) -> Markdown:
    """Claims with our figure, verdict, device, and a link to the cell that shows them.

    Args:
        claims: what `load_claim` gives, one for each row.
        part: of the course, "I" to "IV": only claims that a lesson of this part shows.
        verdict: only claims with this verdict.
        word: only claims whose text, figure or explanation holds it, in capitals or not.

    Raises:
        ValueError: there is no such part or verdict.
    """
    if part not in ("", *PARTS):
        raise ValueError(f"part {part!r} must be one of {', '.join(PARTS)}")
    if verdict not in ("", *VERDICT_SIGNS):
        raise ValueError(f"verdict {verdict!r} must be one of {', '.join(VERDICT_SIGNS)}")
    chosen = [
        claim
        for claim in claims
        if fits_claim(
            {**claim, "part": lesson(claim["cell"][:2]).part}, part=part, verdict=verdict, word=word
        )
    ]
    if not chosen:
        return Markdown("No claim fits.")
    head = ("The claim", "Verdict", "Our figure", "Measured on", "Shown in")
    return _table(head, [_claim_row(claim) for claim in chosen])


def fits_claim(claim: Mapping[str, Any], *, part: str, verdict: str, word: str) -> bool:
    """Whether a claim has this part, this verdict and this word; "" asks for nothing.

    Args:
        claim: with "part", "verdict", and the texts "says", "ours" and "explanation".
    """
    text = " ".join(claim[name] for name in ("says", "ours", "explanation"))
    return (
        (not part or claim["part"] == part)
        and (not verdict or claim["verdict"] == verdict)
        and word.lower() in text.lower()
    )


def topics(subjects: Sequence[Topic], claims: Mapping[str, Mapping[str, Any]]) -> Markdown:
    """From each subject of the articles to the lessons, and to the cell of each claim.

    Args:
        subjects: `zoo_lessons.claims.TOPICS`.
        claims: id -> what `load_claim` gives.
    """
    rows = []
    for subject in subjects:
        found = [claims[id] for id in subject.claims]
        links = [
            f"[{claim['claim']}]({cell_link(claim['cell'])})\N{NO-BREAK SPACE}"
            + VERDICT_SIGNS[claim["verdict"]]
            for claim in found
        ]
        lessons = [f"{_link(number)} {lesson(number).title}" for number in subject.lessons]
        rows.append((subject.name, " · ".join(links), " · ".join(lessons)))
    return _table(("What the articles write about", "Claims", "Lessons"), rows)


def _claim_row(claim: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"**{claim['claim']}** {claim['says']}",
        f"{VERDICT_SIGNS[claim['verdict']]}\N{NO-BREAK SPACE}{claim['verdict']}",
        _sentence(claim["ours"]),
        f"{_device(claim['machine'])}, {claim['date'].replace('-', NO_BREAK_HYPHEN)}",
        f"[{_heading(claim['cell'])}]({cell_link(claim['cell'])})",
    )


def _heading(cell: str) -> str:
    """The lesson's number and the heading itself, where its source lies beside it."""
    number, _, anchor = cell.partition("#")
    path = repository_root() / "notebooks" / "source" / f"{lesson(number).slug}.py"
    texts = headings(percent_markdown(path.read_text("utf8"))) if path.is_file() else ()
    text = next((text for text in texts if heading_anchor(text) == anchor), None)
    return f"{number}, {text or anchor.replace('-', ' ')}"


def _device(machine: Mapping[str, Any]) -> str:
    return machine["gpu"] or f"{machine['device']}, {_threads(machine['threads'])}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _sentence(text: str) -> str:
    """The text with a capital letter and a full stop, on one line. A symbol, as d_k, stays."""
    text = " ".join(text.split())
    if re.match(r"[^\W\d_]+(?![\w^])", text):
        text = text[0].upper() + text[1:]
    return text and text.rstrip(".") + "."


def _model_row(row: Mapping[str, Any]) -> list[str]:
    difference, lines, time, memory = (row[k] for k in ("difference", "lines", "time", "memory"))
    ours = [f"{lines['ours']} + {lines['layers']}", f"{memory['ours']:.0f}"]
    if row["theirs"] is None:
        compared = ["has none", "–", "–"]
        milliseconds = f"ours {time['milliseconds']:.0f} ms"
    else:
        low, high = time["interval"]
        compared = [
            f"`{row['theirs']}`",
            _power(difference["float64"]),
            _power(difference["float32"]),
        ]
        ours = [f"{ours[0]} / {lines['theirs']}", f"{ours[1]} / {memory['theirs']:.0f}"]
        milliseconds = f"{time['ratio']:.2f} ({low:.2f} to {high:.2f})"
    if time["with"]:
        milliseconds += f", {time['with']}"
    published = row["parameters"]["published"] or "no count"
    counted = f"{_count(row['parameters'])} ({published})"
    return [f"**{row['model']}**", *compared, ours[0], counted, milliseconds, ours[1]]


def _power(value: float) -> str:
    return f"{value:.0e}" if value else "0"


def _count(parameters: Mapping[str, Any]) -> str:
    """Ours; theirs too, should they differ."""
    ours, theirs = parameters["ours"], parameters["theirs"]
    return f"{ours:,}" if theirs in (ours, None) else f"{ours:,}; theirs {theirs:,}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markdown:
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def _link(number: str) -> str:
    """The lesson's number, as a link when its notebook is there."""
    slug = next(lesson.slug for lesson in LESSONS if lesson.number == number)
    exists = (repository_root() / "notebooks" / f"{slug}.ipynb").is_file()
    return f"[{number}]({slug}.ipynb)" if exists else number
