"""The notebook builder, on tiny notebooks in a temporary course."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import v4

from tools import notebooks
from tools.notebooks import (
    ROOT,
    TABLE_END,
    TABLE_START,
    Course,
    link_problems,
    notebook_problems,
)
from zoo_lessons.lab.curriculum import LESSONS

ATTENTION, HEADS = LESSONS[1], LESSONS[2]
PLACEHOLDERS = '# %% [markdown] tags=["title-card"]\n# -\n\n# %% tags=["setup"]\n# -\n'


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Course:
    """A course with no notebook yet, whose set-up cell needs no import of the library."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "README.md").write_text(f"before\n{TABLE_START}\n{TABLE_END}\nafter\n")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(Course, "setup_cell", lambda self, pair: 'print("ready")')
    return Course(tmp_path, LESSONS)


def add(course: Course, cells: str, *, solution: bool = False):
    pair = course.pair(ATTENTION, solution=solution)
    pair.source.parent.mkdir(parents=True, exist_ok=True)
    pair.source.write_text(f"{PLACEHOLDERS}\n{cells}\n")
    return pair


def fake_build(course: Course, pair) -> None:
    """Write the notebook of a source as `build` would, without starting a kernel."""
    nb = notebooks._formatted(course.read_source(pair))
    pair.source.write_text(course.source_text(nb))
    for count, cell in enumerate(notebooks._code_cells(nb), start=1):
        cell.execution_count = count
    notebooks._clean(nb)
    pair.notebook.write_text(nbformat.writes(nb) + "\n")


def edit_notebook(pair, change) -> None:
    nb = nbformat.read(pair.notebook, as_version=4)
    change(nb)
    nbformat.write(nb, pair.notebook)


CELLS = """\
# %% [markdown]
# The formula $x_1 = \\frac{1}{2}$.

# %%
import sys
def double(x): return 2*x
print(double(2))
print("and more")

# %% tags=["nbval-ignore-output"]
double( 3 )

# %% tags=["raises-exception"]
raise ValueError("expected")

# %% tags=["nbval-skip"]
# %%time
# !ls /
"""


def test_build_executes_checks_clean_and_is_byte_stable(course: Course) -> None:
    lesson, solution = add(course, CELLS), add(course, "# %%\n1 + 1", solution=True)
    report = course.build(lesson)
    course.build(solution)
    course.write_readme()
    assert course.check_all() == []
    assert report.seconds > 0 and report.size_bytes == lesson.notebook.stat().st_size
    assert 10 < report.peak_mib < 2000

    first = lesson.notebook.read_bytes(), lesson.source.read_bytes()
    course.build(lesson)
    assert (lesson.notebook.read_bytes(), lesson.source.read_bytes()) == first

    nb = nbformat.read(lesson.notebook, as_version=4)
    assert [cell.id for cell in nb.cells] == [f"cell-{i:03d}" for i in range(len(nb.cells))]
    assert set(nb.metadata) == {"kernelspec"}
    assert nb.cells[3].source.startswith("import sys\n\n\ndef double(x):\n    return 2 * x")
    (stream,) = nb.cells[3].outputs
    assert stream.text == "4\nand more\n"
    assert nb.cells[5].outputs[0].ename == "ValueError"
    assert nb.cells[6].execution_count is None and nb.cells[6].source == "%%time\n!ls /"


def test_a_failing_cell_leaves_the_old_notebook(course: Course) -> None:
    pair = add(course, "# %%\nraise RuntimeError('broken')")
    pair.notebook.write_text("the last good build")
    with pytest.raises(CellExecutionError, match="broken"):
        course.build(pair)
    assert pair.notebook.read_text() == "the last good build"


def test_clean_drops_widget_views_and_state() -> None:
    view = {notebooks.WIDGET_VIEW: {"model_id": "12ab"}}
    outputs = [
        v4.new_output("display_data", data=dict(view)),
        v4.new_output("display_data", data={**view, "text/plain": "a head"}),
        v4.new_output("stream", name="stdout", text="kept"),
    ]
    nb = clean_notebook(v4.new_code_cell("show()", outputs=outputs))
    nb.metadata["widgets"] = {"state": {}}
    notebooks._clean(nb)
    assert "widgets" not in nb.metadata
    assert [output.output_type for output in nb.cells[0].outputs] == ["display_data", "stream"]
    assert nb.cells[0].outputs[0].data == {"text/plain": "a head"}


def test_check_shows_the_difference_of_a_stale_pair(course: Course) -> None:
    pair = add(course, "# %%\nx = 1")
    fake_build(course, pair)
    assert course.check(pair) == []
    pair.source.write_text(pair.source.read_text().replace("x = 1", "x = 2"))
    (problem,) = course.check(pair)
    assert "notebooks/01_attention.ipynb: out of step" in problem
    assert "-x = 1" in problem and "+x = 2" in problem


def test_check_finds_missing_halves_strays_and_a_stale_readme(course: Course) -> None:
    pair = add(course, "# %%\nx = 1")
    stray = course.root / "notebooks" / "99_lost.ipynb"
    stray.write_text("{}")
    problems = course.check_all()
    assert "notebooks/01_attention.ipynb: missing" in problems
    assert "notebooks/99_lost.ipynb: belongs to no lesson" in problems
    assert any(problem.startswith("README.md: the lesson table is stale") for problem in problems)
    pair.source.rename(course.root / "gone.py")
    pair.notebook.write_text("{}")
    assert "notebooks/source/01_attention.py: missing" in course.check(pair)


def test_check_finds_a_stale_title_card_and_refresh_mends_it(course: Course) -> None:
    pair = add(course, "# %%\nx = 1")
    fake_build(course, pair)
    add(course, "# %%\n1 + 1", solution=True)  # now the lesson's card has to link to it
    assert len(course.check(pair)) == 2
    course.refresh(pair)
    assert course.check(pair) == []


def test_a_source_without_its_two_tagged_cells_is_refused(course: Course) -> None:
    pair = add(course, "")
    pair.source.write_text("# %%\nx = 1\n\n# %%\ny = 2\n")
    with pytest.raises(ValueError, match=r"must be tagged title-card .* got tags \[\[\], \[\]\]"):
        course.read_source(pair)
    pair.notebook.write_text("{}")
    assert "must be tagged" in course.check(pair)[0]


def test_the_notebooks_folder_has_a_size_limit(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_build(course, add(course, "# %%\nx = 1"))
    course.write_readme()
    assert course.check_all() == []
    monkeypatch.setattr(notebooks, "MAX_FOLDER_BYTES", 100)
    (problem,) = course.check_all()
    assert problem.startswith("notebooks/ holds")


def test_title_cards_and_setup_come_from_the_curriculum(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = course.pair(HEADS)
    card = course.title_card(lesson)
    assert card.startswith("# 02 · Multi-head attention")
    assert HEADS.question in card and all(f"- {goal}" in card for goal in HEADS.goals)
    assert f"{HEADS.minutes} minutes" in card
    assert "01 Attention" in card and "(01_attention.ipynb)" not in card  # not written yet
    assert "solutions/" not in card
    add(course, "")
    assert "[01 Attention](01_attention.ipynb)" in course.title_card(lesson)
    assert "![" not in card and "<img" not in card, "badges must be text: the course opens offline"
    owner = course.repository.removeprefix("https://github.com/")
    assert f"github/{owner}/blob/main/notebooks/02_multi_head_attention.ipynb)" in card
    assert f"gh/{owner}/main?labpath=notebooks%2F02_multi_head_attention.ipynb)" in card

    solution = course.title_card(course.pair(HEADS, solution=True))
    assert "solutions" in solution.splitlines()[0]
    assert "(../02_multi_head_attention.ipynb)" in solution

    monkeypatch.undo()
    setup = course.setup_cell(lesson)
    compile(setup, "setup", "exec")
    assert course.repository in setup and setup.endswith('lab.begin("02")')


def test_new_writes_skeletons_in_normal_form_and_never_overwrites(course: Course) -> None:
    written = course.new(ATTENTION)
    assert [path.parent.parent.name for path in written] == ["notebooks", "solutions"]
    pair = course.pair(ATTENTION)
    assert pair.source.read_text() == course.source_text(course.read_source(pair))
    assert "solutions/01_attention.ipynb" in pair.source.read_text()
    with pytest.raises(FileExistsError, match="notebooks/source/01_attention.py is there already"):
        course.new(ATTENTION)


def test_select_takes_numbers_names_and_paths(course: Course) -> None:
    course.new(ATTENTION)
    both = [course.pair(ATTENTION), course.pair(ATTENTION, solution=True)]
    assert course.select([]) == course.select(["01"]) == course.select(["01_attention"]) == both
    assert (
        course.select([str(both[1].source)]) == course.select([str(both[1].notebook)]) == both[1:]
    )
    with pytest.raises(ValueError, match="no notebook is called '07'; there are: 01_attention"):
        course.select(["07"])


def test_readme_table_links_only_to_written_lessons(course: Course) -> None:
    add(
        course,
        '# %% tags=["check"]\nfrom zoo_lessons.lab.widgets import Answer, ZooMap, MaskExplorer',
    )
    rows = {row.split(" | ")[0]: row for row in course.lesson_table().splitlines()}
    first, second = rows["| 01"], rows["| 02"]
    assert first.startswith("| 01 | [Attention](notebooks/01_attention.ipynb) | 60 | 1 | How can ")
    assert first.endswith(" |  | ZooMap, MaskExplorer |")
    assert second.startswith("| 02 | Multi-head attention (planned) | 55 |  | What do ")
    assert second.endswith(" | MiniLM |  |")
    table = course.lesson_table()
    course.write_readme()
    text = (course.root / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and table in text
    course.write_readme()
    assert (course.root / "README.md").read_text() == text
    (course.root / "README.md").write_text("no markers")
    with pytest.raises(ValueError, match="once each"):
        course.readme()


def executed(source: str = "x", outputs=(), tags=()) -> nbformat.NotebookNode:
    cell = v4.new_code_cell(source, execution_count=1, outputs=list(outputs))
    cell.metadata["tags"] = list(tags)
    return clean_notebook(cell)


def clean_notebook(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return v4.new_notebook(cells=list(cells), metadata={"kernelspec": notebooks.KERNELSPEC})


def png(metadata: dict) -> nbformat.NotebookNode:
    return v4.new_output("display_data", data={"image/png": "iVBO"}, metadata=metadata)


def html(text: str) -> nbformat.NotebookNode:
    return v4.new_output("display_data", data={"text/html": text})


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return v4.new_output("stream", name=name, text=text)


ERROR = v4.new_output("error", ename="KeyError", evalue="'q'", traceback=[])
WIDGET = v4.new_output("display_data", data={notebooks.WIDGET_VIEW: {"model_id": "1"}})


@pytest.mark.parametrize(
    ("nb", "complaint"),
    [
        (executed("\n".join("x" * 31)), "has 31 lines of code, at most 30"),
        (executed(outputs=[ERROR]), "raised KeyError: 'q'"),
        (executed(outputs=[stream("a warning", "stderr")]), "wrote to stderr: 'a warning'"),
        (executed(outputs=[WIDGET]), "holds a widget view"),
        (executed(outputs=[png({})]), "shows a PNG without alt text"),
        (executed(outputs=[png({"image/png": {"alt": " "}})]), "shows a PNG without alt text"),
        (executed(outputs=[html("<p><img src='a'>")]), "without alt text"),
        (executed(outputs=[html('<img alt="" src="a">')]), "without alt text"),
        (executed(outputs=[stream(f"saved to {ROOT}/build/x")]), "a path of this machine"),
        (executed(outputs=[stream("saved to /tmp/ipykernel_1/2.py")]), "a path of this machine"),
        (executed(outputs=[stream("saved to /home/ada/zoo")]), "a path of this machine"),
        (executed(f"open('{Path.home()}/x')"), "a path of this machine"),
        (executed(outputs=[stream("<Head object at 0x7f001234abcd>")]), "a memory address"),
        (clean_notebook(v4.new_code_cell("x")), "was not executed"),
        (clean_notebook(v4.new_raw_cell("x")), "is a raw cell"),
        (clean_notebook(v4.new_markdown_cell("![](a.png)")), "'a.png' without alt text"),
        (v4.new_notebook(metadata={"widgets": {}}), "holds widget state"),
        (v4.new_notebook(), "not written by build"),
    ],
)
def test_notebook_problems(nb: nbformat.NotebookNode, complaint: str) -> None:
    problems = notebook_problems(nb)
    assert len(problems) == 1, problems
    assert complaint in problems[0]


@pytest.mark.parametrize(
    "nb",
    [
        executed("\n".join("x" * 30)),
        executed(outputs=[ERROR], tags=["raises-exception"]),
        executed(outputs=[png({"image/png": {"alt": "twelve heads"}}), html('<img alt="a head">')]),
        executed(outputs=[stream("https://example.org/home/x and and/or 1/2, tmp/x")]),
        clean_notebook(v4.new_markdown_cell("![a head](a.png)")),
        clean_notebook(v4.new_code_cell("x", metadata={"tags": ["nbval-skip"]})),
        clean_notebook(v4.new_code_cell("")),
    ],
)
def test_clean_notebooks_have_no_problems(nb: nbformat.NotebookNode) -> None:
    assert notebook_problems(nb) == []


def test_command_line_reports_problems_with_its_exit_code(capsys: pytest.CaptureFixture) -> None:
    assert notebooks.main(["build", "77"]) == 1
    assert "no notebook is called '77'" in capsys.readouterr().err
    assert notebooks.main(["new", "77"]) == 1
    assert "the curriculum has no lesson '77'" in capsys.readouterr().err


def test_links_must_lead_somewhere(tmp_path: Path) -> None:
    (tmp_path / "there is.ipynb").touch()
    text = (
        "[here](there%20is.ipynb#Section) [web](https://example.org/a_(b)) [top](#Top) "
        "[gone](06_gpt.ipynb#Part) $f[i](x)$"
    )
    nb = v4.new_notebook(cells=[v4.new_markdown_cell(text)])
    problems = list(link_problems(nb, tmp_path))
    assert problems == ["cell 0: links to '06_gpt.ipynb', which is not there"]
