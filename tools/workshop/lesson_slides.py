"""A lesson's notebook cut into slides.

Nobody tags cells for this. A section (`##`) starts a column of slides, a subsection or an exercise
(`###`) a slide below, and so does whatever would not fit any more. A projector shows less than a
page: of a long paragraph the slide keeps the first sentences. The speaker notes hold all of it, and
the hints, the usual mistakes, and the right answers of the quiz.
"""

from __future__ import annotations

import ast
import base64
import copy
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import nbformat
from nbformat import NotebookNode

from zoo_lessons.lab.curriculum import PARTS, Lesson
from zoo_lessons.lab.exercises import exercise
from zoo_lessons.lab.quiz import quiz, quiz_lessons

# Sizes in pixels of a slide of 1280 × 720, as `slides.css` sets them. What they estimate decides
# only where a slide ends; in the browser, `slides.js` measures and shrinks what is too high still.
ROOM, FULL = 610, float("inf")
# The end of a section may be so much too high, rather than stand alone on the next slide.
SLACK = 1.12
LINE, CHARACTERS = 33, 98
CODE_LINE, SMALL_CODE_LINE, SMALL_CODE_FROM = 25, 21, 19
OUTPUT_LINE = 23
MAX_BOX = 480
FIGURE_WIDTH, FIGURE_HEIGHT, MAX_MAGNIFICATION = 1080, 430, 1.25
FONT_SIZE = 22
# A paragraph up to this length stands on a slide as it is.
MAX_PARAGRAPH = 230

EXERCISE = re.compile(
    r"### (?P<title>Exercise \d+ · .+) \((?P<stars>[★☆]+), (?P<minutes>\d+) min\)"
)
HINT = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
CHECK = re.compile(r"""lab\.check\(\s*["'](\d\d\.\w+)["']""")
PREDICT = "**Predict"
FIGURE = "<strong>Figure.</strong>"
DRAWING = re.compile(r"\b(plt|axe?s?|fig|figure|panel|show_figure|image)\b")
QUIZ = re.compile(r"""lab\.quiz\(["'](\d\d)["']\)""")


@dataclass
class Piece:
    """What stays together on one slide: a heading, a paragraph, code, an output.

    Attributes:
        cell: what the slide shows.
        height: estimated, in pixels.
        starts: "slide" or "subslide" where this piece must begin one.
        notes: Markdown for the speaker.
        kind: "title", "section", "subsection" or "exercise", for the style sheet.
        ends_exercise: what follows is no part of the exercise any more.
    """

    cell: NotebookNode | None
    height: float = 0.0
    starts: str = ""
    notes: list[str] = field(default_factory=list)
    kind: str = ""
    ends_exercise: bool = False


def slide_notebook(nb: NotebookNode, lesson: Lesson, decks: Sequence[str] = ()) -> NotebookNode:
    """The notebook that nbconvert makes into slides; `nb` stays as it was.

    Args:
        nb: an executed lesson, title card and set-up cell first.
        decks: slugs of the lessons that have slides, so that links between lessons stay links.
    """
    pieces = [_title(lesson)]
    title = ""
    for cell in nb.cells[2:]:
        for piece in _pieces(cell, decks):
            if piece.kind == "section":
                title = piece.cell.source.lstrip("# ")
            pieces.append(piece)
            if piece.cell is not None:
                piece.cell.metadata.section = title
    slides = nbformat.v4.new_notebook(metadata=copy.deepcopy(nb.metadata))
    slides.metadata.title = f"{lesson.number} · {lesson.title}"
    slides.cells = list(_placed(pieces))
    for index, cell in enumerate(slides.cells):
        cell.id = f"slide-{index:03d}"
    return slides


def _placed(pieces: Sequence[Piece]) -> Iterator[NotebookNode]:
    """The cells in order, with the tags that nbconvert reads; notes end each slide."""
    used = 0.0
    kind = ""
    asked = False  # to predict what comes next: it appears when the speaker goes on
    notes: list[str] = []
    for index, piece in enumerate(pieces):
        starts = piece.starts
        if piece.cell is not None and used and used + _until_break(pieces[index:]) > ROOM * SLACK:
            starts = starts or ("subslide" if used + piece.height > ROOM else "")
        if starts and notes:
            yield _notes_cell(notes)
            notes = []
        notes += piece.notes
        if piece.ends_exercise:
            kind, used = "further", FULL
        if piece.cell is None:
            continue
        kind = piece.kind or kind
        used = piece.height if starts else used + piece.height
        is_answer = asked and piece.cell.cell_type == "code"
        show = {"slide_type": starts or ("fragment" if is_answer else "-")}
        asked = PREDICT in piece.cell.source or (asked and not is_answer)
        if starts:
            section = "" if kind in ("title", "section") else piece.cell.metadata.section
            show["data"] = {"kind": kind, "section": section}
            kind = kind if kind == "exercise" else "further"
        piece.cell.metadata.pop("section", None)
        piece.cell.metadata.slideshow = show
        yield piece.cell
    if notes:
        yield _notes_cell(notes)


def _until_break(pieces: Sequence[Piece]) -> float:
    """Height of the first piece and of those below it that start no slide of their own."""
    height = pieces[0].height
    for piece in pieces[1:]:
        if piece.starts or piece.ends_exercise:
            break
        height += piece.height
    return height


def _notes_cell(notes: Sequence[str]) -> NotebookNode:
    cell = nbformat.v4.new_markdown_cell("\n\n".join(notes))
    cell.metadata.slideshow = {"slide_type": "notes"}
    return cell


def _title(lesson: Lesson) -> Piece:
    goals = "\n".join(f"- {goal}" for goal in lesson.goals)
    text = (
        f"# {lesson.number} · {lesson.title}\n\n*{lesson.question}*\n\n"
        f"After this lesson you can\n\n{goals}\n\n"
        f"Part {lesson.part}, {PARTS[lesson.part]} · {lesson.minutes} minutes"
    )
    needs = ", ".join(lesson.needs) or "none"
    return Piece(_markdown(text), FULL, "slide", [f"Lessons to take first: {needs}."], "title")


def _pieces(cell: NotebookNode, decks: Sequence[str]) -> Iterator[Piece]:
    if cell.cell_type == "markdown":
        yield from _markdown_pieces(_links(cell.source, decks))
    elif "check" in cell.metadata.get("tags", []) and (match := CHECK.search(cell.source)):
        yield Piece(None, notes=_mistakes(match[1]), ends_exercise=True)
    elif (match := QUIZ.search(cell.source)) and match[1] in quiz_lessons():
        yield from _quiz_pieces(match[1])
    elif cell.source.strip():
        yield from _code_pieces(cell, decks)


# Text


def _markdown_pieces(text: str) -> Iterator[Piece]:
    hints = [f"**{name.strip()}.** {' '.join(body.split())}" for name, body in HINT.findall(text)]
    if hints:  # they stand below the exercise, and before the lesson goes on
        yield Piece(None, notes=hints)
    blocks = _blocks(HINT.sub("", text))
    for index, block in enumerate(blocks):
        following = blocks[index + 1] if index + 1 < len(blocks) else ""
        if match := EXERCISE.fullmatch(block):
            badge = f'<p class="minutes">{match["minutes"]} minutes · {match["stars"]}</p>'
            yield Piece(
                _markdown(f"### {match['title']}\n\n{badge}"), 110, "subslide", kind="exercise"
            )
        elif block.startswith("## "):
            yield Piece(_markdown(block), 70, "slide", kind="section")
        elif block.startswith("### "):
            yield Piece(_markdown(block), 60, "subslide", kind="subsection")
        else:
            shown = _shortened(block, leads_on=_leads_on(block, following))
            notes = [block] if shown != block else []
            yield Piece(_markdown(shown), _text_height(shown), notes=notes)


def _blocks(text: str) -> list[str]:
    """Paragraphs, list items, tables, formulas and fenced code, each by itself."""
    blocks: list[str] = []
    current: list[str] = []
    closing = ""

    def close() -> None:
        if "".join(current).strip():
            blocks.append("\n".join(current).strip("\n"))
        current.clear()

    for line in text.splitlines():
        bare = line.strip()
        if closing:
            current.append(line)
            if bare.endswith(closing):
                closing = ""
                close()
        elif bare.startswith("```") or (bare.startswith("$$") and bare.count("$$") == 1):
            close()
            closing = "```" if bare.startswith("```") else "$$"
            current.append(line)
        elif not bare:
            close()
        elif re.match(r"#{1,6} ", line):
            close()
            blocks.append(bare)
        elif re.match(r"([-*+]|\d+\.) ", line):
            close()
            current.append(line)
        else:
            current.append(line)
    close()
    return blocks


def _is_list_item(block: str) -> bool:
    return bool(re.match(r"([-*+]|\d+\.) ", block))


def _leads_on(block: str, following: str) -> bool:
    """Does this paragraph's last sentence introduce what comes below it?"""
    return block.endswith(":") or following.startswith(("$$", "```", "|"))


def _shortened(block: str, *, leads_on: bool) -> str:
    """The first sentences of a long paragraph, and the last one too where it leads on."""
    is_plain = not (block.startswith(("$$", "```", "|", ">", "<")) or _is_list_item(block))
    if not is_plain or len(block) <= MAX_PARAGRAPH or PREDICT in block:
        return block
    sentences = _sentences(" ".join(block.split()))
    kept = 1
    while kept < len(sentences) and len(" ".join(sentences[: kept + 1])) <= MAX_PARAGRAPH:
        kept += 1
    if kept == len(sentences):
        return block
    shown = sentences[:kept]
    if leads_on:
        shown.append(sentences[-1])
    return " ".join(shown)


def _sentences(text: str) -> list[str]:
    """Sentences of one paragraph; formulas, code, links and bold text are never cut."""
    sentences: list[str] = []
    begin = 0
    for match in re.finditer(r"(?<=[.!?:])[*)]*\s+(?=[A-Z*`$\"'\[(])", text):
        sentence = text[begin : match.end()].strip()
        is_open = (
            sentence.count("$") % 2
            or sentence.count("`") % 2
            or sentence.count("**") % 2
            or sentence.count("[") != sentence.count("]")
            or sentence.count("(") != sentence.count(")")
        )
        if not is_open and not re.search(r"(e\.g|i\.e|et al|vs|[a-z]:)$", sentence.rstrip(".")):
            sentences.append(sentence)
            begin = match.end()
    return [*sentences, text[begin:].strip()]


def _text_height(block: str) -> float:
    if block.startswith("$$"):
        return 80 + 45 * block.count("\\\\")
    lines = block.splitlines()
    if block.startswith("|"):
        return 14 + sum(34 * -(-len(line) // 130) for line in lines)
    if block.startswith("```"):
        return 30 + CODE_LINE * len(lines)
    return LINE * -(-len(block) // CHARACTERS) + 14


def _links(text: str, decks: Sequence[str]) -> str:
    """Links to other lessons lead to their slides; to other files they become plain text."""

    def target(match: re.Match[str]) -> str:
        label, address = match[1], match[2]
        if "://" in address:
            return match[0]
        lesson = re.fullmatch(r"(\w+)\.ipynb(#.*)?", address)
        return f"[{label}]({lesson[1]}.html)" if lesson and lesson[1] in decks else label

    return re.sub(r"(?<!!)\[((?:[^\[\]]|`[^`]*`)+)\]\(([^()\s]+)\)", target, text)


def _markdown(source: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source)


# Exercises and the quiz


def _mistakes(id: str) -> list[str]:
    named = [mistake.name for mistake in exercise(id).mistakes]
    if not named:
        return []
    return ["**Usual mistakes,** which the check recognises:", "\n".join(f"- {n}" for n in named)]


def _quiz_pieces(number: str) -> Iterator[Piece]:
    """One question a slide; the notes say which answer is right, and what to say to each."""
    for index, question in enumerate(quiz(number).questions):
        numeric = question["kind"] == "numeric"
        answers = [] if numeric else [f"- {answer['text']}" for answer in question["answers"]]
        text = "\n\n".join([f"**{index + 1}.** {question['question']}", "\n".join(answers)])
        notes = []
        for answer in question["answers"]:
            given = f"{answer['value']:g}" if numeric else answer["text"]
            mark = "right" if answer["correct"] else "wrong"
            notes.append(f"- *{given}* ({mark}): {answer['feedback']}")
        # The first question stands below the heading.
        yield Piece(_markdown(text), 400, "subslide" if index else "", ["\n".join(notes)])


# Code and what it prints


def _code_pieces(cell: NotebookNode, decks: Sequence[str]) -> Iterator[Piece]:
    """Code with its outputs; outputs that do not fit below it follow on slides of their own.

    Code that only draws a figure, and leaves no room for it, stays in the notebook.
    """
    code = nbformat.v4.new_code_cell(_without_captions(cell.source.strip()))
    lines = len(code.source.splitlines())
    is_small = lines >= SMALL_CODE_FROM
    if is_small:
        code.metadata.tags = ["small"]
    height = 24 + lines * (SMALL_CODE_LINE if is_small else CODE_LINE)
    groups = list(_output_groups(cell.outputs, decks))
    total = height + sum(more for _, more in groups)
    if groups and total > ROOM and _only_draws(code.source):
        code, height = _outputs_only([]), 0.0
    while groups and height + groups[0][1] <= ROOM:
        outputs, more = groups.pop(0)
        code.outputs += outputs
        height += more
    yield Piece(code, height)
    for outputs, more in groups:
        yield Piece(_outputs_only(outputs), more)


def _outputs_only(outputs: list[NotebookNode]) -> NotebookNode:
    cell = nbformat.v4.new_code_cell("", outputs=outputs)
    cell.metadata.transient = {"remove_source": True}
    return cell


def _without_captions(source: str) -> str:
    """The code without the caption and the description, which stand below the figure anyway."""
    tree = ast.parse(source)
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "show_figure"
    ]
    lines = source.splitlines()
    for call in sorted(calls, key=lambda node: node.lineno, reverse=True):
        first = lines[call.lineno - 1].encode()[: call.col_offset].decode()
        last = lines[call.end_lineno - 1].encode()[call.end_col_offset :].decode()
        figure = ast.unparse(call.args[0])
        lines[call.lineno - 1 : call.end_lineno] = [f"{first}lab.show_figure({figure}, ...){last}"]
    return "\n".join(lines)


def _only_draws(source: str) -> bool:
    """Do at least half of the lines belong to statements about a figure?"""
    statements = ast.parse(source).body
    lines = [node.end_lineno - node.lineno + 1 for node in statements]
    drawing = [bool(DRAWING.search(ast.get_source_segment(source, node))) for node in statements]
    drawn = sum(count for count, draws in zip(lines, drawing, strict=True) if draws)
    return "show_figure" in source and 2 * drawn >= sum(lines)


def _output_groups(
    outputs: Sequence[NotebookNode], decks: Sequence[str]
) -> Iterator[tuple[list[NotebookNode], float]]:
    """Outputs with their heights; a figure's caption stays with the figure."""
    group: list[NotebookNode] = []
    height = 0.0
    for output in map(copy.deepcopy, outputs):
        data = output.get("data", {})
        html = data.get("text/html", "")
        if "text/markdown" in data:
            data["text/markdown"] = _links(data["text/markdown"], decks)
        is_caption = FIGURE in html
        if is_caption:  # the picture keeps the description as its alternative text
            data["text/html"] = re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL)
        if group and not is_caption:
            yield group, height
            group, height = [], 0.0
        if "image/png" in data:
            width, _ = _shown_size(data["image/png"])
            output.metadata.setdefault("image/png", {})["slide_width"] = round(width / FONT_SIZE, 1)
        group.append(output)
        height += _output_height(output)
    if group:
        yield group, height


def _output_height(output: NotebookNode) -> float:
    if output.output_type == "stream":
        return min(MAX_BOX, 20 + OUTPUT_LINE * len(output.text.splitlines()))
    data = output.get("data", {})
    if "image/png" in data:
        return 16 + _shown_size(data["image/png"])[1]
    if "text/html" in data:
        html = data["text/html"]
        if FIGURE in html:
            text = re.sub(r"<[^>]+>", "", html)
            return 12 + 24 * -(-len(text) // 125)
        if "<svg" in html or "<script" in html:
            return MAX_BOX
        lines = html.count("\n") if "<pre" in html else html.count("<tr") + html.count("<li")
        return min(MAX_BOX, 60 + OUTPUT_LINE * lines)
    if "text/markdown" in data:
        return min(MAX_BOX, sum(_text_height(block) for block in _blocks(data["text/markdown"])))
    return min(MAX_BOX, 20 + OUTPUT_LINE * len(str(data.get("text/plain", "")).splitlines()))


def _shown_size(png: str) -> tuple[float, float]:
    """Width and height of a picture on a slide. Its own are in the PNG's first chunk."""
    width, height = struct.unpack(">II", base64.b64decode(png[:64])[16:24])
    scale = min(MAX_MAGNIFICATION, FIGURE_WIDTH / width, FIGURE_HEIGHT / height)
    return width * scale, height * scale
