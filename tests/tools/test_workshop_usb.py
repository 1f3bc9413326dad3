"""The offline bundle: real wheels, real sums, the real installer, in an environment of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.setup_environment import SetupError
from tools.workshop import bundles, usb_stick
from tools.workshop.__main__ import parse
from tools.workshop.usb_stick import Target, this_computer

ROOT = Path(__file__).resolve().parents[2]
# What the installer calls: stands in for the course, whose gigabytes would take minutes.
SET_UP = """\
import subprocess, sys, venv
from pathlib import Path
here = Path(__file__).resolve().parents[1]
venv.create(here / ".venv", with_pip=True)
python = here / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
command = [python, "-m", "pip", "install", "--quiet", "small-package==1.0", *sys.argv[2:]]
raise SystemExit(subprocess.run(command).returncode)
"""


def make_wheel(folder: Path, name: str = "small_package", licence: str = "MIT") -> Path:
    """A wheel with one module and its licence, as any installer takes it."""
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "answer = 42\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\n"
        f"Version: 1.0\nLicense-Expression: {licence}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{about}/licenses/LICENSE.txt": "You may.\n",
    }
    record = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record.append(f"{path},sha256={digest.decode()},{len(text.encode())}\n")
    files[f"{about}/RECORD"] = "".join(record) + f"{about}/RECORD,,\n"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """An unpacked bundle in a folder with a blank in its name."""
    course = tmp_path / "course"
    (course / "tools").mkdir(parents=True)
    (course / "tools" / "setup_environment.py").write_text(SET_UP)
    shutil.copy(ROOT / "tools" / "python.sh", course / "tools")
    (course / "lesson.txt").write_text("A lesson.\n")
    wheel = make_wheel(tmp_path)
    folder = tmp_path / "made" / "offline"
    usb_stick.write_bundle(ROOT, folder, [wheel], this_computer(), course)
    archive = bundles.zip_folder(folder)
    stick = tmp_path / "a stick"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(stick)
    return stick / "offline"


def install(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(bundle / "install.sh"), *arguments]
    if os.name == "nt":
        command = [sys.executable, str(bundle / "install.py"), *arguments]
    # No index answers: whatever is installed comes from the bundle.
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def test_installing_from_the_bundle_without_a_network(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my course ü"
    done = install(bundle, str(folder))
    assert done.returncode == 0, done.stderr
    assert f"The course is in {folder}" in done.stdout
    python = folder / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [python, "-c", "import small_package; print(small_package.answer)"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "42\n"
    (folder / "lesson.txt").write_text("My notes.\n")
    again = install(bundle, str(folder))
    assert again.returncode == 0, again.stderr
    assert (folder / "lesson.txt").read_text() == "My notes.\n"


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_damaged_file_is_named_before_anything_is_installed(bundle: Path, tmp_path: Path) -> None:
    (wheel,) = (bundle / "wheels").iterdir()
    wheel.write_bytes(wheel.read_bytes()[:-1])
    folder = tmp_path / "here"
    said = complaint(install(bundle, str(folder)))
    assert f"wheels/{wheel.name} was damaged on the way" in said
    assert not folder.exists()


def test_a_lost_file_is_named(bundle: Path, tmp_path: Path) -> None:
    (bundle / "course" / "lesson.txt").unlink()
    assert "course/lesson.txt is missing" in complaint(install(bundle, str(tmp_path / "here")))


def test_another_computer_is_told_what_the_bundle_is_for(bundle: Path, tmp_path: Path) -> None:
    about = {**json.loads((bundle / "bundle.json").read_text()), "machine": "m68k"}
    (bundle / "bundle.json").write_text(json.dumps(about))
    said = complaint(install(bundle, str(tmp_path / "here")))
    assert "is for" in said and "m68k" in said and "ask for a bundle made for this" in said


def test_a_package_that_does_not_install_ends_in_a_sentence(bundle: Path, tmp_path: Path) -> None:
    (wheel,) = (bundle / "wheels").iterdir()
    wheel.unlink()
    sums = [x for x in (bundle / "SHA256SUMS").read_text().splitlines() if wheel.name not in x]
    (bundle / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    assert "could not be installed in" in complaint(install(bundle, str(tmp_path / "here")))


@pytest.mark.skipif(os.name == "nt", reason="sh is a Unix tool")
def test_without_the_right_python_the_script_names_it(bundle: Path, tmp_path: Path) -> None:
    text = (bundle / "install.sh").read_text()
    version = this_computer().python
    wrong = text.replace(version.replace(".", ", "), "2, 7").replace(version, "2.7")
    (bundle / "install.sh").write_text(wrong)
    said = complaint(install(bundle, str(tmp_path / "here")))
    assert "This bundle needs Python 2.7: install it, or name it" in said


def test_sums_are_those_of_sha256sum(bundle: Path) -> None:
    if not shutil.which("sha256sum"):
        pytest.skip("sha256sum is not installed")
    command = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=bundle).returncode == 0
    listed = {x.split("  ", 1)[1] for x in (bundle / "SHA256SUMS").read_text().splitlines()}
    there = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert listed == there - {"SHA256SUMS"}


def test_licences_are_listed_and_their_texts_unpacked(bundle: Path) -> None:
    table = (bundle / "LICENCES.md").read_text()
    assert "| small-package | 1.0 | MIT | [LICENSE.txt](<licences/small-package-1.0/" in table
    (text,) = (bundle / "licences").rglob("LICENSE.txt")
    assert text.read_text() == "You may.\n"


def course_with_pins(folder: Path, *pins: str) -> Path:
    folder.mkdir()
    (folder / "requirements.txt").write_text("# pins\n" + "\n".join(pins) + "\n")
    (folder / "requirements-serve.txt").write_text("")
    (folder / "pyproject.toml").write_text('[build-system]\nrequires = ["build_tool>=1.0"]\n')
    return folder


def test_packages_come_from_the_given_folder_and_then_from_the_cache(tmp_path: Path) -> None:
    course = course_with_pins(tmp_path / "course", "small-package==1.0")
    given = tmp_path / "given wheels"
    given.mkdir()
    make_wheel(given)
    make_wheel(given, "build_tool")
    make_wheel(given, "not_wanted")
    cache = tmp_path / "cache"
    found = usb_stick.download(course, cache, this_computer(), given)
    names = ["build_tool-1.0-py3-none-any.whl", "small_package-1.0-py3-none-any.whl"]
    assert [path.name for path in found] == names
    shutil.rmtree(given)  # now only the cache has them
    assert [path.name for path in usb_stick.download(course, cache, this_computer())] == names


def test_a_folder_that_lacks_a_package_is_named(tmp_path: Path) -> None:
    course = course_with_pins(tmp_path / "course", "small-package==1.0")
    (tmp_path / "given").mkdir()
    with pytest.raises(SetupError, match="given does not hold all packages. .*small-package"):
        usb_stick.download(course, tmp_path / "cache", this_computer(), tmp_path / "given")


def test_without_a_network_the_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = course_with_pins(tmp_path / "course", "small-package==1.0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(SetupError) as caught:
        usb_stick.download(course, tmp_path / "cache", Target("3.11", "Windows", "amd64"))
    assert "index cannot be reached: check the network" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_targets() -> None:
    assert usb_stick.target(None, ()) == this_computer()
    windows = usb_stick.target("3.12", ["win_amd64"])
    assert windows.name == "windows-amd64-python3.12"
    assert windows.pip_arguments()[:2] == ["--python-version", "3.12"]
    mac = usb_stick.target("3.13", ["macosx_11_0_arm64"])
    assert (mac.system, mac.machine) == ("Darwin", "arm64")
    assert usb_stick.target("3.12", ["manylinux_2_28_x86_64"]).machine == "x86_64"
    for python, tags, said in (
        ("3.99", (), "need --platform as well"),
        ("latest", (), "must look like 3.12"),
        ("3.12", ("windows",), "a name such as win_amd64"),
    ):
        with pytest.raises(ValueError, match=said):
            usb_stick.target(python, tags)


def test_options() -> None:
    options = parse(["--only", "slides", "student", "--lessons", "01"])
    assert (options.only, options.lessons) == (["slides", "student"], ["01"])
    assert set(parse([]).only) == {"student", "slides", "instructor", "offline"}
    with pytest.raises(SystemExit):
        parse(["--only", "everything"])
