"""One lesson of each part where it is hard to run: not as root, in a folder whose name has spaces
and umlauts, in a checkout that nobody may write to, with a home that is elsewhere or read-only.

The environment is the one that runs the tests. Root (as in CI) gives up its rights through a user
namespace in which it is `nobody`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "Mein Kurs für Größe/Übung 1"
NOBODY = 65534
UNSHARE = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]

# One of each part. The home of the first two is a fresh folder, that of the others read-only.
LESSONS = {
    "01_attention": "fresh",
    "09_vit": "fresh",
    "15_efficient_attention": "read-only",
    "20_fusion": "read-only",
}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="rights work differently on Windows")


def without_rights() -> list[str]:
    """What to put before a command so that it runs without root's rights."""
    if os.geteuid() != 0:
        return []
    if shutil.which(UNSHARE[0]):
        if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0:
            return UNSHARE
    problem = "root cannot give up its rights here: 'unshare --user' does not work"
    if os.environ.get("CI") == "true":
        pytest.fail(problem)
    pytest.skip(problem)


def set_writable(folder: Path, writable: bool) -> None:
    for path in [folder, *folder.rglob("*")]:
        mode = path.stat().st_mode
        path.chmod(mode | 0o200 if writable else mode & ~0o222)


def files_in(folder: Path) -> dict[str, int]:
    """Every path below, with the time of its last change in nanoseconds."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All files that git does not ignore, read-only. A test that changes one fails."""
    # Root may look into a checkout of another user only when told so.
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("no git checkout, so nothing says which files belong to the course")
    folder = tmp_path_factory.mktemp("hard places") / FOLDER
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).exists():  # not one that was deleted and not yet committed
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    set_writable(folder, False)
    before = files_in(folder)
    yield folder
    changed = {path for path, _ in before.items() ^ files_in(folder).items()}
    set_writable(folder, True)  # or pytest could not remove it
    assert not changed, f"something wrote into the checkout: {sorted(changed)}"


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[dict[str, dict[str, str]]]:
    """Environment variables of a user with a fresh home, and of one who may not write there."""
    home, runtime, temporary = tmp_path / "zu Hause", tmp_path / "runtime", tmp_path / "tmp"
    for folder in (home, runtime, temporary):
        folder.mkdir()
    kept = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VIRTUAL_ENV")
    common = {name: os.environ[name] for name in kept if name in os.environ}
    common |= {"HOME": str(home), "TMPDIR": str(temporary)}
    yield {"fresh": common, "read-only": {**common, "JUPYTER_RUNTIME_DIR": str(runtime)}}
    home.chmod(0o700)


def start(
    arguments: list[str | Path], checkout: Path, surroundings: dict[str, dict[str, str]], home: str
) -> subprocess.Popen[str]:
    environment = {**surroundings[home], "PYTHONPATH": str(checkout)}
    if home == "read-only":
        Path(environment["HOME"]).chmod(0o500)
    return subprocess.Popen(
        [*without_rights(), sys.executable, *map(str, arguments)],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_lesson(notebook: Path, checkout: Path, surroundings, home: str):
    script = Path(__file__).with_name("run_lesson.py")
    process = start([script, notebook], checkout, surroundings, home)
    try:
        output, errors = process.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output, errors


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_of_each_part(lesson: str, checkout: Path, surroundings) -> None:
    notebook = checkout / "notebooks" / f"{lesson}.ipynb"
    status, output, errors = run_lesson(notebook, checkout, surroundings, LESSONS[lesson])
    assert status == 0, errors
    facts = json.loads(output.splitlines()[-1])
    assert facts["user"] != 0
    assert Path(facts["library"]).is_relative_to(checkout), "this was not the copy's library"


def test_a_lesson_that_writes_into_the_checkout_fails_here(
    checkout: Path, surroundings, tmp_path: Path
) -> None:
    """Shows that the place is as hard as it should be."""
    nb = nbformat.v4.new_notebook()
    write = "from zoo_lessons.paths import data_dir\n(data_dir() / 'mine.txt').write_text('mine')"
    nb.cells = [nbformat.v4.new_code_cell(write)]
    notebook = tmp_path / "writes.ipynb"
    nbformat.write(nb, notebook)
    status, _, errors = run_lesson(notebook, checkout, surroundings, "fresh")
    assert status == 1 and "PermissionError" in errors


def test_jupyterlab_opens_there(checkout: Path, surroundings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--no-browser", "--port", str(port), "--IdentityProvider.token=hard"]
    server = start(["tools/start_lab.py", *flags], checkout, surroundings, "fresh")
    page = f"http://127.0.0.1:{port}/api/contents/notebooks/01_attention.ipynb?content=0&token=hard"
    try:
        found = wait_for(page, server)
        assert found["path"] == "notebooks/01_attention.ipynb" and not found["writable"]
    finally:
        server.terminate()
        server.communicate(timeout=60)


def wait_for(page: str, server: subprocess.Popen[str]) -> dict:
    for _ in range(240):
        try:
            with urllib.request.urlopen(page, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            assert server.poll() is None, server.communicate()[1]
            time.sleep(0.5)
    raise TimeoutError(f"JupyterLab did not answer: {page}")
