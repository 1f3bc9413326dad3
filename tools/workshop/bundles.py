"""Folders and archives for the two roles of a workshop: the students', and the instructor's."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path

import nbformat

from tools.notebooks import TITLE_TAG
from tools.setup_environment import SetupError

HERE = Path(__file__).resolve().parent
STUDENT, INSTRUCTOR, SOLUTIONS = (
    "zoo-lessons-student",
    "zoo-lessons-instructor",
    "zoo-lessons-solutions",
)
# What a student opens, and what that needs. Of the tools: those that install and start the course.
STUDENT_FOLDERS = ("data", "experiments", "notebooks", "zoo_lessons")
STUDENT_FILES = (
    "LICENSE",
    "Makefile",
    "environment.yml",
    "pyproject.toml",
    "tools/__init__.py",
    "tools/python.sh",
    "tools/setup_environment.py",
    "tools/start_lab.py",
)
STUDENT_TARGETS = ("lab", "serve", "clean")
HELD_BACK = ("notebooks/solutions", "notebooks/source")
PUBLIC_LINKS = "[Open in Colab]("
# The oldest date that a zip archive can hold. A date of today would make each archive another.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
ALREADY_COMPRESSED = {".gz", ".png", ".whl", ".zip"}


def tracked_files(root: Path) -> list[Path]:
    """The course's files, relative to its folder, as they are now.

    Raises:
        SetupError: only git knows which files are the course's, and this is no clone.
    """
    command = ["git", "-c", f"safe.directory={root}", "ls-files", "-z"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        done = None
    if done is None or done.returncode:
        raise SetupError(
            "'make workshop' asks git which files belong to the course, and this folder is no git "
            "clone: clone the repository, then call it there."
        )
    paths = [Path(name) for name in done.stdout.split("\0") if name]
    return sorted(path for path in paths if (root / path).is_file())


def changed_files(root: Path) -> tuple[int, int]:
    """How many files differ from the last commit, and how many git does not know yet."""
    command = ["git", "-c", f"safe.directory={root}", "status", "--porcelain", "-uall"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    new = [line.startswith("??") for line in done.stdout.splitlines()]
    return len(new) - sum(new), sum(new)


def is_for_students(path: Path) -> bool:
    """Does this file of the course belong into the student bundle?"""
    name = path.as_posix()
    if name.startswith(tuple(f"{folder}/" for folder in HELD_BACK)):
        return False
    is_requirements = re.fullmatch(r"requirements[\w-]*\.txt", name)
    return path.parts[0] in STUDENT_FOLDERS or name in STUDENT_FILES or bool(is_requirements)


def write_student(root: Path, folder: Path) -> None:
    """Write the student bundle: lessons without outputs, no solutions, what they need to run."""
    fresh(folder)
    for path in filter(is_for_students, tracked_files(root)):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            target.write_text(_cleared(root / path), "utf8")
        elif path.name == "Makefile":
            target.write_text(_student_makefile((root / path).read_text("utf8")), "utf8")
        elif path.name == "pyproject.toml":
            target.write_text(_without_pairing((root / path).read_text("utf8")), "utf8")
        else:
            shutil.copy(root / path, target)
    shutil.copy(HERE / "student_README.md", folder / "README.md")
    later = folder / "notebooks" / "solutions" / "README.md"
    later.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "solutions_README.md", later)


def write_instructor(root: Path, folder: Path, extras: Iterable[Path]) -> None:
    """Write the instructor bundle: the whole course, a guide to the bundle, and the extras.

    Args:
        extras: files and folders to add at the top: slides, the students' archive, the solutions.
    """
    fresh(folder)
    copy_course(root, folder)
    shutil.copy(HERE / "instructor_README.md", folder / "WORKSHOP.md")
    for extra in extras:
        target = folder / extra.name
        shutil.copytree(extra, target) if extra.is_dir() else shutil.copy(extra, target)


def write_solutions(root: Path, archive: Path) -> None:
    """Write the archive that is unpacked over a student bundle after the workshop."""
    folder = root / "notebooks" / "solutions"
    write_zip(archive, root, sorted(folder.glob("*.ipynb")))


def copy_course(root: Path, folder: Path) -> None:
    """Copy all files of the course."""
    for path in tracked_files(root):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, target)


def _cleared(path: Path) -> str:
    """A lesson as it is before anybody ran it; its card does not lead to the published answers."""
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if TITLE_TAG in cell.metadata.get("tags", []):
            kept = [line for line in cell.source.splitlines() if not line.startswith(PUBLIC_LINKS)]
            cell.source = "\n".join(kept).strip()
    return nbformat.writes(nb) + "\n"


def _student_makefile(text: str) -> str:
    """The Makefile without the targets whose programs stay with the authors."""
    kept = []
    for line in text.splitlines():
        target = re.match(r"([\w-]+):\s", line)
        if line.startswith(".PHONY"):
            kept.append(f".PHONY: {' '.join(STUDENT_TARGETS)}")
        elif not line.startswith("#") and (not target or target[1] in STUDENT_TARGETS):
            kept.append(line)
    return "\n".join(kept) + "\n"


def _without_pairing(pyproject: str) -> str:
    """JupyterLab would otherwise save each lesson a second time, as its author's source."""
    return re.sub(r"^formats = .*\n", "", pyproject, flags=re.MULTILINE)


# Folders and archives


def fresh(folder: Path) -> None:
    """Make an empty folder, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def zip_folder(folder: Path) -> Path:
    """Write `folder.zip` beside the folder; unpacked, it is one folder of that name."""
    archive = folder.with_name(f"{folder.name}.zip")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_zip(archive, folder.parent, files)
    return archive


def write_zip(archive: Path, base: Path, files: Iterable[Path]) -> None:
    """Pack files under their paths below `base`, without owners and dates: same files, same bytes.

    The archive appears only when it is whole.
    """
    partial = archive.with_name(f"{archive.name}.part")
    with zipfile.ZipFile(partial, "w") as packed:
        for path in files:
            info = zipfile.ZipInfo(path.relative_to(base).as_posix(), ZIP_DATE)
            info.create_system = 3  # Unix, whose permissions follow
            info.external_attr = (0o755 if path.stat().st_mode & 0o100 else 0o644) << 16
            if path.suffix not in ALREADY_COMPRESSED:
                info.compress_type = zipfile.ZIP_DEFLATED
            info.file_size = path.stat().st_size  # or a large one gets no room for its size
            with path.open("rb") as source, packed.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    partial.replace(archive)
