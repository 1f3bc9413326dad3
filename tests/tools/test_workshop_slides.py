"""Where a lesson is cut into slides, what stays on them, and what goes into the notes."""

from __future__ import annotations

import base64
import struct

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.workshop import decks, lesson_slides
from tools.workshop.lesson_slides import ROOM, slide_notebook
from zoo_lessons.lab.curriculum import LESSONS
from zoo_lessons.lab.quiz import quiz

LESSON = next(lesson for lesson in LESSONS if lesson.number == "01")
LONG = " ".join(f"This is sentence number {number}, and it is not short." for number in range(9))


def slides(*cells: NotebookNode, decks: tuple[str, ...] = ()) -> list[NotebookNode]:
    """The cells after the title slide."""
    head = [new_markdown_cell("# title card"), new_code_cell("set_up()")]
    nb = new_notebook(cells=[*head, *cells])
    title, its_notes, *found = slide_notebook(nb, LESSON, decks).cells
    assert kinds([title, its_notes]) == ["slide", "notes"]
    return found


def kinds(cells: list[NotebookNode]) -> list[str]:
    return [cell.metadata.slideshow.slide_type for cell in cells]


def notes(cells: list[NotebookNode]) -> str:
    return "\n".join(c.source for c in cells if c.metadata.slideshow.slide_type == "notes")


def png(width: int, height: int) -> str:
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return base64.b64encode(header + bytes(40)).decode()


def test_the_title_slide_comes_from_the_curriculum_and_the_set_up_is_left_out() -> None:
    nb = new_notebook(cells=[new_markdown_cell("# card"), new_code_cell("set_up()")])
    title, needs = slide_notebook(nb, LESSON).cells
    assert LESSON.question in title.source and f"{LESSON.minutes} minutes" in title.source
    assert all(goal in title.source for goal in LESSON.goals)
    assert needs.metadata.slideshow.slide_type == "notes"
    assert not [cell for cell in (title, needs) if "set_up" in cell.source]


def test_sections_start_slides_and_subsections_start_slides_below() -> None:
    found = slides(new_markdown_cell("## One\n\nShort.\n\n### Two\n\nShort too."))
    found = [cell for cell in found if cell.metadata.slideshow.slide_type != "notes"]
    assert kinds(found) == ["slide", "-", "subslide", "-"]
    assert found[2].metadata.slideshow.data.section == "One"


def test_an_exercise_has_its_minutes_and_the_lesson_goes_on_on_another_slide() -> None:
    found = slides(
        new_markdown_cell("### Exercise 2 · Attention (★★☆, 8 min)\n\nWrite it."),
        new_code_cell("def attention(q, k, v): ...", metadata={"tags": ["exercise"]}),
        new_code_cell('lab.check("01.attention", attention)', metadata={"tags": ["check"]}),
        new_markdown_cell("<details><summary>Hint 1</summary>\n\nDivide.\n\n</details>\n\nOn."),
    )
    heading, _task, stub, further, after = found
    assert heading.metadata.slideshow.data.kind == "exercise"
    assert "8 minutes · ★★☆" in heading.source and "8 min)" not in heading.source
    assert stub.source.startswith("def attention") and not stub.outputs
    assert "the scores are not divided by √d_k" in further.source
    assert "**Hint 1.** Divide." in further.source
    assert [after.source, after.metadata.slideshow.data.kind] == ["On.", "further"]
    assert not [cell for cell in found if "lab.check" in cell.source]


def test_a_long_paragraph_is_shortened_and_the_notes_have_all_of_it() -> None:
    shown, whole = slides(new_markdown_cell(LONG))[-2:]
    assert whole.source == LONG
    assert LONG.startswith(shown.source) and shown.source.endswith("short.")
    assert len(shown.source) <= lesson_slides.MAX_PARAGRAPH


def test_the_sentence_that_leads_to_a_formula_stays() -> None:
    leading = f"{LONG} So the weights are\n\n$$ w = 1 $$"
    shown = slides(new_markdown_cell(leading))
    assert shown[0].source.endswith("So the weights are")
    assert [c.source for c in shown if c.source.startswith("$$")] == ["$$ w = 1 $$"]


@pytest.mark.parametrize(
    "whole", ["**Predict.** " + LONG, "- " + LONG, "$$ a. B. C " + LONG + " $$", "> " + LONG]
)
def test_questions_lists_formulas_and_quotations_are_not_shortened(whole: str) -> None:
    assert slides(new_markdown_cell(whole))[0].source == whole


def test_no_sentence_ends_inside_a_formula_code_or_link() -> None:
    text = "See `a. B` and $x. Y$ and [A. B](https://x.test). Then **c. D** ends. Next one."
    assert lesson_slides._sentences(text) == [
        "See `a. B` and $x. Y$ and [A. B](https://x.test).",
        "Then **c. D** ends.",
        "Next one.",
    ]


def test_what_does_not_fit_goes_on_below_and_nothing_is_lost() -> None:
    code = "\n".join(f"line_{number} = {number}" for number in range(15))
    printed = [new_output("stream", text="output\n" * 12)]
    cells = [new_code_cell(code, outputs=printed) for _ in range(3)]
    found = slides(new_markdown_cell("## Section"), *cells)
    assert kinds(found).count("subslide") >= 2
    assert [cell.source for cell in found if cell.source.startswith("line_0")] == [code] * 3
    outputs = [output for cell in found for output in cell.get("outputs", [])]
    assert len(outputs) == 3


def test_what_a_prediction_asks_for_appears_only_when_the_speaker_goes_on() -> None:
    found = slides(
        new_markdown_cell("## Section\n\n**Predict.** How many?"),
        new_code_cell("print(1)"),
        new_code_cell("print(2)"),
    )
    assert kinds(found) == ["slide", "-", "fragment", "-"]


def test_a_figure_keeps_its_caption_and_loses_its_hidden_description() -> None:
    caption = (
        "<div><strong>Figure.</strong> It grows."
        "<details><summary>Description of the figure</summary>A line.</details></div>"
    )
    picture = new_output("display_data", {"image/png": png(900, 600)})
    below = new_output("display_data", {"text/html": caption})
    code = (
        'x = 1\nfig, ax = plt.subplots()\nlab.show_figure(\n    fig,\n    "It grows.",\n    "A",\n)'
    )
    (cell,) = slides(new_code_cell(code, outputs=[picture, below]))
    assert cell.source.endswith("lab.show_figure(fig, ...)")
    assert "description" not in str(cell.outputs).lower()
    assert cell.outputs[0].metadata["image/png"]["slide_width"] > 20


def test_code_that_only_draws_gives_its_room_to_the_figure() -> None:
    lines = "\n".join(f"ax.plot({number})" for number in range(12))
    picture = new_output("display_data", {"image/png": png(900, 600)})
    drawing = f"fig, ax = plt.subplots()\n{lines}\nlab.show_figure(fig, 'a', 'b')"
    (cell,) = slides(new_code_cell(drawing, outputs=[picture]))
    assert cell.metadata.transient.remove_source and cell.outputs
    computing = "\n".join(f"x_{number} = {number}" for number in range(20))
    found = slides(new_code_cell(f"{computing}\n{drawing}", outputs=[picture]))
    assert "x_3 = 3" in found[0].source and found[1].outputs


def test_links_lead_to_slides_or_become_text() -> None:
    text = "[04](04_transformer.ipynb#x), [15](15_efficient_attention.ipynb), [P](https://x.test)"
    (cell,) = slides(new_markdown_cell(text), decks=("04_transformer",))
    assert cell.source == "[04](04_transformer.html), 15, [P](https://x.test)"


def test_each_question_of_the_quiz_has_a_slide_with_the_answers_in_the_notes() -> None:
    found = slides(new_markdown_cell("## Quiz"), new_code_cell('lab.quiz("01")'))
    questions = quiz("01").questions
    shown = "\n".join(cell.source for cell in found if "(right)" not in cell.source)
    for question in questions:
        assert question["question"] in shown
    assert notes(found).count("(right)") >= len(questions)
    assert "(right)" not in shown
    assert kinds(found).count("subslide") == len(questions) - 1


@pytest.mark.parametrize("lesson", decks.lessons_with_notebooks(decks.ROOT), ids=lambda x: x.slug)
def test_every_lesson_is_cut_into_slides_of_a_sensible_size(lesson) -> None:
    nb = nbformat.read(decks.ROOT / "notebooks" / f"{lesson.slug}.ipynb", as_version=4)
    found = slide_notebook(nb, lesson)
    starts = kinds(found.cells)
    sections = [c for c in nb.cells if c.cell_type == "markdown" and c.source.startswith("## ")]
    assert starts.count("slide") >= len(sections) + 1
    assert 15 <= starts.count("slide") + starts.count("subslide") <= 150
    exercises = [c for c in nb.cells if "exercise" in c.metadata.get("tags", [])]
    headed = [c for c in found.cells if '<p class="minutes">' in c.source]
    assert bool(exercises) == bool(headed)
    assert ROOM < 720
