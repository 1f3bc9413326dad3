"""What the bundles hold, and that a solution which slips into the students' one is found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from tools.setup_environment import SetupError
from tools.workshop import bundles, leaks
from tools.workshop.__main__ import OUT

ROOT = Path(__file__).resolve().parents[2]
LESSON = Path("notebooks", "01_attention.ipynb")


@pytest.fixture(scope="module")
def built() -> Path:
    """What make workshop wrote."""
    if not (OUT / f"{bundles.STUDENT}.zip").is_file():
        missing = "the workshop's bundles are not there: call make workshop first"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return OUT


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A student bundle of one lesson, to be spoilt."""
    folder = tmp_path / "student"
    (folder / "notebooks").mkdir(parents=True)
    (folder / LESSON).write_text(bundles._cleared(ROOT / LESSON), "utf8")
    (folder / "data").mkdir()
    (folder / "data" / "weights.safetensors").write_bytes(bytes(range(256)))
    return folder


def test_a_student_bundle_gives_nothing_away(small: Path) -> None:
    assert leaks.problems(small, ROOT) == []


def test_the_bundle_as_built_gives_nothing_away_and_has_what_a_lesson_needs(built: Path) -> None:
    names = set(zipfile.ZipFile(built / f"{bundles.STUDENT}.zip").namelist())
    names = {name.removeprefix(f"{bundles.STUDENT}/") for name in names}
    solved = {name for name in names if name.startswith("notebooks/solutions/")}
    assert solved == {"notebooks/solutions/README.md"}
    kept_back = ("tests/", "docs/", ".", "notebooks/source/")
    assert not [name for name in names if name.startswith(kept_back)]
    for wanted in ("README.md", "Makefile", "LICENSE", "pyproject.toml", "requirements.txt"):
        assert wanted in names
    assert {"zoo_lessons/lab/__init__.py", "data/README.md", "tools/start_lab.py"} <= names
    lessons = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    tracked = {path.name for path in bundles.tracked_files(ROOT) if path.parent == LESSON.parent}
    assert {Path(name).name for name in names if name.endswith(".ipynb")} <= lessons & tracked


def _plant_line(folder: Path) -> str:
    line = next(iter(leaks.telling_lines(ROOT)))
    solution = ROOT / "notebooks" / "solutions" / leaks.telling_lines(ROOT)[line]
    cells = nbformat.read(solution, as_version=4).cells
    lines = [text for cell in cells for text in cell.source.splitlines()]
    original = next(text for text in lines if "".join(text.split()) == line)
    (folder / "data" / "notes.md").write_text(f"By the way:\n    {original}\n", "utf8")
    return f"data/notes.md: holds a line of {solution.name}"


def _plant_notebook(folder: Path) -> str:
    target = folder / "notebooks" / "solutions" / LESSON.name
    target.parent.mkdir()
    shutil.copy(ROOT / "notebooks" / "solutions" / LESSON.name, target)
    return "holds outputs or a count of executions"


def _plant_answer(folder: Path) -> str:
    nb = nbformat.read(folder / LESSON, as_version=4)
    stub = next(cell for cell in nb.cells if "exercise" in cell.metadata.get("tags", []))
    stub.source = 'dead_rows = "cde"'
    nbformat.write(nb, folder / LESSON)
    return "is not the lesson's"


def _plant_output(folder: Path) -> str:
    nb = nbformat.read(folder / LESSON, as_version=4)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    code[3].outputs = [nbformat.v4.new_output("stream", text="0.87\n")]
    nbformat.write(nb, folder / LESSON)
    return "holds outputs or a count of executions"


def _plant_author(folder: Path) -> str:
    nb = nbformat.read(folder / LESSON, as_version=4)
    nb.metadata.authors = [{"name": "Somebody"}]
    nbformat.write(nb, folder / LESSON)
    return "has the metadata ['authors', 'kernelspec']"


def _plant_path(folder: Path) -> str:
    (folder / "data" / "log.txt").write_text(f"read {ROOT}/data/x.json\n", "utf8")
    return "data/log.txt: holds a path of this machine"


def _plant_link(folder: Path) -> str:
    nb = nbformat.read(folder / LESSON, as_version=4)
    nb.cells[0].source += "\n\n[Solutions](solutions/01_attention.ipynb)"
    nbformat.write(nb, folder / LESSON)
    return "links to the solutions"


@pytest.mark.parametrize(
    "plant",
    [
        _plant_line,
        _plant_notebook,
        _plant_answer,
        _plant_output,
        _plant_author,
        _plant_path,
        _plant_link,
    ],
)
def test_what_slips_in_is_found(small: Path, plant: Callable[[Path], str]) -> None:
    sentence = plant(small)
    found = leaks.problems(small, ROOT)
    assert any(sentence in problem for problem in found), found


def test_every_solution_has_lines_that_tell_it() -> None:
    told = set(leaks.telling_lines(ROOT).values())
    solutions = {path.name for path in (ROOT / "notebooks" / "solutions").glob("*.ipynb")}
    assert told == solutions


def test_a_lesson_runs_from_the_student_bundle(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(built / f"{bundles.STUDENT}.zip") as packed:
        packed.extractall(tmp_path / "a course")
    folder = tmp_path / "a course" / bundles.STUDENT
    code = (
        "import nbformat, sys\n"
        "from nbclient import NotebookClient\n"
        "nb = nbformat.read('notebooks/01_attention.ipynb', as_version=4)\n"
        "nb.cells.append(nbformat.v4.new_code_cell('print(lab.__file__)'))\n"
        "NotebookClient(nb, timeout=300, kernel_name='python3',\n"
        "    resources={'metadata': {'path': 'notebooks'}}).execute()\n"
        "print(nb.cells[-1].outputs[0].text)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder), "ZOO_PROGRESS": "off"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().startswith(str(folder)), "the lesson used another library"


def test_make_in_the_student_bundle_offers_only_what_is_there() -> None:
    text = bundles._student_makefile((ROOT / "Makefile").read_text("utf8"))
    programs = re.findall(r"tools/[\w.]+", text)
    assert set(programs) <= set(bundles.STUDENT_FILES)
    assert "lab:" in text and "test:" not in text and "record:" not in text


def test_the_instructor_bundle_has_slides_solutions_and_what_to_hand_out(built: Path) -> None:
    path = built / f"{bundles.INSTRUCTOR}.zip"
    names = {name.partition("/")[2] for name in zipfile.ZipFile(path).namelist()}
    assert {"WORKSHOP.md", "slides/index.html", "slides/01_attention.html"} <= names
    assert {f"{bundles.STUDENT}.zip", f"{bundles.SOLUTIONS}.zip"} <= names
    tracked = {path.as_posix() for path in bundles.tracked_files(ROOT)}
    assert {name for name in tracked if name.startswith("notebooks/solutions/")} <= names


def test_solutions_unpack_into_their_place(tmp_path: Path) -> None:
    archive = tmp_path / "solutions.zip"
    bundles.write_solutions(ROOT, archive)
    names = zipfile.ZipFile(archive).namelist()
    assert f"notebooks/solutions/{LESSON.name}" in names
    assert all(name.startswith("notebooks/solutions/") for name in names)


def test_the_same_files_make_the_same_archive_without_owner_or_date(tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "b.txt").write_text("b" * 1000)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    first = bundles.zip_folder(folder).read_bytes()
    os.utime(folder / "b.txt", (1_000_000_000, 1_000_000_000))
    assert bundles.zip_folder(folder).read_bytes() == first
    with zipfile.ZipFile(tmp_path / "some.zip") as packed:
        script = packed.getinfo("some/run.sh")
        assert script.external_attr >> 16 == 0o755
        assert packed.getinfo("some/b.txt").compress_size < 100


def test_a_folder_that_is_no_clone_gets_one_sentence(tmp_path: Path) -> None:
    if subprocess.run(["git", "rev-parse"], cwd=tmp_path, capture_output=True).returncode == 0:
        pytest.skip("the temporary folder lies in a git repository")
    with pytest.raises(SetupError, match="no git clone"):
        bundles.tracked_files(tmp_path)
