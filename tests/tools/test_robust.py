"""`make robust`: seeds move where they should, and what was lost is found and reported."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from tools.course_records import course_record_path
from tools.robust import __main__ as command
from tools.robust import pythons, runs
from tools.robust.kernel import STRIDE, Watcher
from tools.robust.runs import Cell, Job, Run
from tools.robust.summary import summarise, table

# --- in the kernel ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "moved"),
    [
        ("torch.manual_seed(3)", "torch.manual_seed(3 + 7)"),
        ("g = torch.Generator().manual_seed(step)", "g = torch.Generator().manual_seed(step + 7)"),
        ("seed_everything(0)", "seed_everything(0 + 7)"),
        ("lab.begin('01')", "lab.begin('01', seed=0 + 7)"),
        ("fit(model, batch, seed=1)", "fit(model, batch, seed=1 + 7)"),
        ("settings = {'lr': 1, 'seed': 0}", "settings = {'lr': 1, 'seed': 0 + 7}"),
        # These choose data or pictures: moved, a lesson could test on what it trained on.
        ("ShapesDataset('test', 200, seed=3)", None),
        ("np.random.default_rng(0)", None),
        ("random.Random(0)", None),
        ("figures = {'seed': 0}", None),
        ("cat.begin('01')", None),
    ],
)
def test_which_seeds_move(code: str, moved: str | None) -> None:
    watcher = Watcher(7)
    assert ast.unparse(watcher.visit(ast.parse(code))) == (moved or code)
    assert watcher.shifted == (moved is not None)


def test_an_assertion_is_written_down_and_does_not_stop_the_cell() -> None:
    watcher = Watcher(0)
    watcher.begin_cell()
    tree = ast.fix_missing_locations(
        watcher.visit(ast.parse("for n in range(3):\n    assert n < 2, 1 / 0\nafter = True"))
    )
    names: dict = {"__zoo_check__": watcher}
    exec(compile(tree, "cell", "exec"), names)
    assert names["after"]
    (check,) = watcher.checks.values()
    assert (check.cell, check.test, check.held, check.failed) == (0, "n < 2", 2, 1)


def test_no_seed_of_the_course_reaches_the_shifted_ones() -> None:
    """Otherwise a shifted generator could draw what a checkpoint was trained on."""
    folders = [command.ROOT / "experiments", command.ROOT / "zoo_lessons"]
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            name = getattr(getattr(node, "func", None), "attr", "")
            if isinstance(node, ast.Call) and name == "manual_seed":
                for constant in ast.walk(node):
                    value = getattr(constant, "value", 0)
                    assert not isinstance(value, int) or value < STRIDE, (path, value)


# --- one run ------------------------------------------------------------------------------------

LESSON = [
    v4.new_markdown_cell("# Lesson\n## First section"),
    v4.new_code_cell("import torch\ntorch.manual_seed(0)\nprint(torch.randint(10**9, ()).item())"),
    v4.new_code_cell("def check(x):\n    assert x > 1\n\ncheck(1)\ncheck(2)\nprint('holds: True')"),
    v4.new_markdown_cell("## Second section"),
    v4.new_code_cell("raise KeyError('gone')"),
    v4.new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),
    v4.new_code_cell("import time; print(time.time())", metadata={"tags": ["nbval-ignore-output"]}),
]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A lesson of a course in a temporary folder."""
    (tmp_path / "notebooks").mkdir()
    nbformat.write(v4.new_notebook(cells=LESSON), tmp_path / "notebooks" / "99_test.ipynb")
    monkeypatch.setattr(Job, "notebook", tmp_path / "notebooks" / "99_test.ipynb")
    monkeypatch.setattr(runs, "RUNS", tmp_path / "runs")
    return Job(0, 0, "99_test")


def test_a_run_sees_everything_and_is_kept_until_the_lesson_changes(job: Job) -> None:
    assert runs.kept(job) is None
    own, other = runs.make(job), runs.make(replace(job, seed=1))
    assert runs.kept(job) == own and runs.kept(replace(job, seed=1)) == other
    assert own.shifted == other.shifted == 1
    assert own.cells[0].digest != other.cells[0].digest, "the seed did not move"
    assert own.cells[1].digest == other.cells[1].digest
    sections = [cell.heading for cell in own.cells]
    assert sections == ["First section"] * 2 + ["Second section"] * 3
    assert [cell.error for cell in own.cells] == ["", "", "KeyError: 'gone'", "", ""]
    assert [cell.compared for cell in own.cells] == [True, True, True, True, False]
    assert own.checks == [{"cell": 1, "test": "x > 1", "held": 1, "failed": 1}]

    nb = nbformat.read(job.notebook, as_version=4)
    nb.cells[1].source += "\nprint(1)"
    nbformat.write(nb, job.notebook)
    assert runs.kept(job) is None


# --- several runs -------------------------------------------------------------------------------


def run(seed: int, lines: list[str], *, held: bool = True, error: str = "", repeat: int = 0) -> Run:
    cell = Cell("Training", True, error, lines, digest="\n".join(lines))
    check = {"cell": 0, "test": "loss < 1", "held": int(held), "failed": int(not held)}
    return Run("99_test", seed, repeat, "s", [], "c", 10.0, 2, [cell], [check])


def test_a_summary_finds_what_a_seed_lost() -> None:
    lines = ["took <time> 17", "accuracy 98.0 %", "at least 97 %: True"]
    again = ["took <time> 18", *lines[1:]]
    others = [
        run(1, ["took", "accuracy 96.5 %", "at least 97 %: False"], held=False),
        run(2, ["took", "accuracy 99.1 %", "at least 97 %: True"]),
        run(3, [], error="ValueError: no"),
    ]
    found = summarise(run(0, lines), run(0, again, repeat=1), others)
    assert found["differ"] == ["Training"] and found["compared"] == 1
    assert found["results"] == 3 and found["seconds"] == 50.0
    assert {lost["what"]: (lost["held"], lost["missing"]) for lost in found["lost"]} == {
        "the cell runs (ValueError: no)": (2, [3]),
        "assert loss < 1": (2, [1]),
        "at least 97 %: True": (1, [1, 3]),
    }
    assert found["spread"] == [], "seed 3 printed nothing"
    spread = summarise(run(0, lines), run(0, again), others[:2])["spread"]
    assert [row["range"] for row in spread] == ["accuracy 96.5 to 99.1 %"]


def test_results_are_compared_by_what_they_say_where_lines_moved() -> None:
    own = run(0, ["a red ring: 3 %", "[True, True]", "shuffled 12: False"])
    moved = run(1, ["one more", "a line", "shuffled 13: False", "[True, True]"])
    assert summarise(own, own, [moved])["lost"] == []
    lost = summarise(own, own, [run(1, ["", "[True, False]", "shuffled 12: True"])])["lost"]
    assert [row["what"] for row in lost] == ["[True, True]", "shuffled 12: False"]


def test_the_table_shows_it() -> None:
    lines = ["accuracy | 98.0 %"]
    lesson = summarise(run(0, lines), run(0, lines), [run(1, ["accuracy | 96.0 %"], held=False)])
    python = {"python": "3.12.1", "compiler": "GCC", "torch": "2.13", "passed": 9, "skipped": 1}
    figures = {"lessons": {"99_test": lesson}, "pythons": [{**python, "failures": ["t::x"]}]}
    record = {"date": "2026-01-01", "machine": {"device": "a CPU"}, "figures": figures}
    text = table(record, {"99_test": "A test"})
    assert "| [99 A test](../notebooks/99_test.ipynb) | 2 | 1 of 1 cells | 1 of 2 |" in text
    assert "| 99 | Training | `assert loss < 1` | 0 of 1 |" in text
    assert "`accuracy \\| 96.0 to 98.0 %`" in text
    assert "| 3.12.1 | GCC | 2.13 | 9 | 1 | `t::x` |" in text


@pytest.mark.skipif(not course_record_path("robust").exists(), reason="`make robust` has not run")
def test_the_committed_table_is_what_the_record_says() -> None:
    assert command.PAGE.read_text("utf8") == command.page(), "run `make robust ARGS='--only table'`"


# --- the command --------------------------------------------------------------------------------


def test_seed_by_seed_so_that_two_runs_at_once_are_of_two_lessons() -> None:
    jobs = command.all_jobs(["01_attention", "02_multi_head_attention"], seeds=2)
    assert [(job.seed, job.repeat, job.lesson[:2]) for job in jobs] == [
        *((0, 0, "01"), (0, 0, "02"), (0, 1, "01"), (0, 1, "02")),
        *((1, 0, "01"), (1, 0, "02"), (2, 0, "01"), (2, 0, "02")),
    ]


def test_unknown_lessons_and_pythons_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--lessons", "77"], ["--only", "pythons", "--python", "3.2"]):
        with pytest.raises(SystemExit):
            command.main(arguments)
    message = capsys.readouterr().err
    assert "no notebook is called '77'" in message and "no Python 3.2 of at least 3.11" in message


def test_this_python_is_found() -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    assert any(name.startswith(version) for name in pythons.find([sys.executable]))
    assert pythons.describe("/no/such/python") is None
    assert pythons.fits("3.1", "3.1.4 (GCC)") and not pythons.fits("3.1", "3.11.2 (GCC)")


def test_a_report_of_unit_tests_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.a" name="good"/>'
        '<testcase classname="tests.a" name="left"><skipped/></testcase>'
        '<testcase classname="tests.b" name="bad"><failure/></testcase>'
        "</testsuite></testsuites>"
    )
    counted = pythons.read_report(report)
    assert json.dumps(counted) == json.dumps(
        {"passed": 1, "skipped": 1, "failures": ["tests.b::bad"]}
    )
