"""A learner's progress: what counts, where it is kept, and that a check never fails for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

from zoo_lessons import lab
from zoo_lessons.lab import exercises
from zoo_lessons.lab.exercises import exercise_ids, lessons_with_exercises
from zoo_lessons.lab.widgets import ZooMap
from zoo_lessons.paths import repository_root

progress = sys.modules["zoo_lessons.lab.progress"]  # `lab.progress` is the function

ID = "00.rows_to_one"


def rows_to_one(x):
    return x / x.sum(dim=1, keepdim=True)


def columns_to_one(x):
    return x / x.sum(dim=0, keepdim=True)


def not_yet(x):
    raise NotImplementedError


for function in (rows_to_one, columns_to_one, not_yet):
    function.__module__ = "__main__"  # as if written in a notebook


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """Where progress is kept in this test; nothing is there yet."""
    monkeypatch.setenv("ZOO_PROGRESS", str(tmp_path / "new folder" / "progress.json"))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(progress, "_said", set())
    return tmp_path / "new folder" / "progress.json"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Make this process look like the kernel of a notebook that somebody has opened."""
    monkeypatch.delenv("ZOO_PROGRESS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(progress, "user_data_path", lambda name, **options: tmp_path / name)
    monkeypatch.setattr(progress, "_said", set())
    shell = SimpleNamespace(kernel=object(), user_ns={})
    monkeypatch.setattr(progress, "get_ipython", lambda: shell)

    def opened(path: str) -> Path:
        monkeypatch.setenv("JPY_SESSION_NAME", path)
        return tmp_path / "zoo-lessons" / "progress.json"

    return opened


# --- what is kept ------------------------------------------------------------------------------


def test_tries_are_counted_until_the_first_pass(file) -> None:
    for answer in (columns_to_one, columns_to_one, rows_to_one, rows_to_one, columns_to_one):
        lab.check(ID, answer)
    kept = json.loads(file.read_text())
    assert kept.keys() == {"version", "exercises"} and kept["exercises"].keys() == {ID}
    entry = kept["exercises"][ID]
    assert entry.keys() == {"tries", "passed"} and entry["tries"] == 3
    assert len(entry["passed"]) == len("2026-11-22") and "sum" not in file.read_text()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(not_yet, id="untouched stub"),
        pytest.param(lambda x: x / x.sum(dim=1, keepdim=True), id="a lesson's demonstration"),
        pytest.param(exercises.exercise(ID).reference, id="imported from the library"),
    ],
)
def test_what_is_no_answer_of_the_learner_does_not_count(file, answer) -> None:
    lab.check(ID, answer)
    assert not file.exists()


def test_a_value_counts(file) -> None:
    progress.note("01.number", "passed", 7)
    assert progress.read_progress(file)["01.number"].tries == 1


# --- where, and whether ------------------------------------------------------------------------


def test_an_opened_notebook_counts_and_solutions_do_not(notebook) -> None:
    file = notebook("/home/somebody/course/notebooks/solutions/00_start_here.ipynb")
    lab.check(ID, rows_to_one)
    assert not file.exists()
    assert notebook("/home/somebody/course/notebooks/00_start_here.ipynb") == file
    lab.check(ID, rows_to_one)
    assert file.exists()


def test_solutions_do_not_count_with_a_file_of_ones_own(file, tmp_path, monkeypatch) -> None:
    (tmp_path / "solutions").mkdir()
    monkeypatch.chdir(tmp_path / "solutions")
    lab.check(ID, rows_to_one)
    assert not file.exists()


def test_off_is_off(notebook, monkeypatch) -> None:
    file = notebook("/course/notebooks/00_start_here.ipynb")
    monkeypatch.setenv("ZOO_PROGRESS", "OFF")
    lab.check(ID, rows_to_one)
    assert not file.exists() and progress.lesson_counts() == {}
    assert "is `off`" in lab.progress().data


def test_programs_that_run_notebooks_leave_no_trace(tmp_path) -> None:
    """In a real kernel: as the builder and nbval start it, and as Jupyter's server does."""
    code = (
        "from zoo_lessons import lab\n"
        "def rows_to_one(x): return x / x.sum(dim=1, keepdim=True)\n"
        f"print(lab.check('{ID}', rows_to_one).status)"
    )
    cells = [
        code,
        "import os; os.environ['JPY_SESSION_NAME'] = '/course/notebooks/solutions/00.ipynb'\n"
        + code,
        f"from pathlib import Path; print(list(Path({str(tmp_path)!r}).rglob('*')))",
        "os.environ['JPY_SESSION_NAME'] = '/course/notebooks/00.ipynb'\n" + code,
        "print(lab.progress().data)\nlab.forget_progress()",
    ]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    environment = {k: v for k, v in os.environ.items() if k != "JPY_SESSION_NAME"}
    environment |= {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    environment["IPYTHONDIR"] = str(tmp_path / "data" / "ipython")
    environment.pop("ZOO_PROGRESS", None)
    NotebookClient(nb, timeout=300).execute(env=environment)
    texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in nb.cells]
    assert texts[0] == texts[1] == texts[3] == "passed\n"
    assert "progress.json" not in texts[2]
    if sys.platform == "linux":
        assert str(tmp_path / "data" / "zoo-lessons" / "progress.json") in texts[4]
    assert "1 of 1" in texts[4] and "1 solved of 1 tried exercises" in texts[4]
    assert not list(tmp_path.rglob("progress.json*"))


def test_stored_notebooks_and_widget_states_hold_nobodys_progress() -> None:
    import gzip

    root = repository_root()
    for path in (root / "notebooks").rglob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert "progress.json" not in text, path.name
        assert "exercises solved" not in text, path.name
    for path in (root / "docs" / "widgets").glob("*.json.gz"):
        assert b"exercises solved" not in gzip.decompress(path.read_bytes()), path.name


def test_no_trait_of_the_map_holds_progress(file) -> None:
    lab.check(ID, rows_to_one)
    shown, sent = ZooMap(), []
    assert "solved" not in repr({k: v for k, v in shown.get_state().items() if k != "_esm"})
    shown.send = sent.append
    shown._handle_custom_msg({"kind": "progress"}, [])
    assert sent[0]["lessons"]["00"] == (1, 1) and sent[0]["lessons"]["01"][0] == 0
    assert "solved" not in shown.static_text()


# --- trouble -----------------------------------------------------------------------------------


def test_a_check_grades_where_nothing_can_be_written(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "no folder").touch()  # holds for the superuser, too, who may write anywhere
    monkeypatch.setenv("ZOO_PROGRESS", str(tmp_path / "no folder" / "progress.json"))
    monkeypatch.setattr(progress, "_said", set())
    for _ in range(3):
        assert lab.check(ID, rows_to_one).status == "passed"
    told = capsys.readouterr().out
    assert told.count("Your progress is not kept") == 1 and told.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_check_grades_in_a_read_only_folder(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("ZOO_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(progress, "_said", set())
    tmp_path.chmod(0o500)
    try:
        assert lab.check(ID, rows_to_one).status == "passed"
    finally:
        tmp_path.chmod(0o700)
    assert "Your progress is not kept" in capsys.readouterr().out


def test_a_lock_that_is_never_given_back_costs_a_moment_only(file, monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, "LOCK_S", 0.05)
    with progress._locked(file):
        assert lab.check(ID, rows_to_one).status == "passed"
    assert "Your progress is not kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"exercises": {"00.a": {"tries": "many", "passed": ""}}}',
        '{"exercises": {"00.a": {"code": "x"}}}',
    ],
)
def test_a_damaged_file_is_set_aside(file, capsys, text) -> None:
    file.parent.mkdir()
    file.write_text(text)
    assert progress.lesson_counts() == {} and "damaged" in lab.progress().data
    assert lab.check(ID, rows_to_one).status == "passed"
    assert capsys.readouterr().out.count("damaged") >= 1
    assert file.with_suffix(".damaged.json").read_text() == text
    assert list(progress.read_progress(file)) == [ID]


def test_two_kernels_at_a_time_lose_nothing(file) -> None:
    ids = [f"09.exercise_{i}" for i in range(24)]
    with ThreadPoolExecutor(max_workers=8) as threads:
        list(threads.map(lambda id: progress.note(id, "passed", 1), ids * 2))
    kept = progress.read_progress(file)
    assert sorted(kept) == sorted(ids) and {entry.tries for entry in kept.values()} == {1}
    left = {path.name for path in file.parent.iterdir()} - {"progress.json.lock"}
    assert left == {"progress.json"}


# --- what is shown -----------------------------------------------------------------------------


def test_the_table_says_what_is_solved_and_what_comes_next(file) -> None:
    assert "No exercise has been checked yet" in lab.progress().data
    first, second, *others = exercise_ids("02")
    progress.note(ID, "passed", 1)
    progress.note(first, "passed", 1)
    progress.note(second, "failed", 1)
    text = lab.progress().data
    assert f"| 1 of {len(others) + 2} |" in text and f"(`{second}`)" in text
    assert "02_multi_head_attention.ipynb" in text and str(file) in text
    for id in (second, *others):
        progress.note(id, "passed", 1)
    assert f"(`{exercise_ids('03')[0]}`)" in lab.progress().data  # not back to 01, which was left


def test_when_all_is_solved(file) -> None:
    all_ids = [id for number in lessons_with_exercises() for id in exercise_ids(number)]
    file.parent.mkdir()
    progress._write(file, {id: progress.Entry(1, "2026-11-22") for id in all_ids})
    assert "Every exercise of the course is solved." in lab.progress().data
    counts = progress.lesson_counts()
    assert all(done == total > 0 for done, total in counts.values())


def test_to_forget_says_what_was_deleted(file, capsys) -> None:
    lab.forget_progress()
    assert "nothing was deleted" in capsys.readouterr().out
    progress.note(ID, "passed", 1)
    progress.note("01.softmax", "failed", 1)
    lab.forget_progress()
    told = capsys.readouterr().out
    assert f"Deleted {file}: 1 solved of 2 tried exercises, in 2 lessons." in told
    assert not list(file.parent.iterdir())


def test_a_borrowed_machine_is_called_one(file, monkeypatch) -> None:
    progress.note(ID, "passed", 1)
    monkeypatch.setenv("BINDER_SERVICE_HOST", "hub")
    assert "lent to you" in lab.progress().data and str(file) not in lab.progress().data


def test_lab_progress_stays_a_function_when_a_check_has_run() -> None:
    code = (
        "from zoo_lessons import lab; from zoo_lessons.lab.exercises import check; "
        "import zoo_lessons.lab.progress; assert callable(lab.progress)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repository_root())
