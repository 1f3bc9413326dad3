"""The course in one archive with all packages, for a room without a network."""

from __future__ import annotations

import email
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import setup_environment
from tools.setup_environment import SetupError
from tools.workshop import bundles

HERE = Path(__file__).resolve().parent
SCRIPTS = {
    "install.sh": """\
#!/bin/sh
# Let a Python of the version that the packages were collected for install the course.
for python in "$PYTHON" python{python} python3; do
    if "$python" -c 'import sys; assert sys.version_info[:2] == ({pair})' 2>/dev/null; then
        exec "$python" "$(dirname "$0")/install.py" "$@"
    fi
done
echo "This bundle needs Python {python}: install it, or name it, as in" \\
    "'PYTHON=/path/to/python{python} sh install.sh'." >&2
exit 1
""",
    "install.bat": '@py -{python} "%~dp0install.py" %*\r\n',
}
LICENCE_FILE = re.compile(r"\.dist-info/.*(licen[cs]e|copying|notice|copyright)[^/]*$", re.I)
SYSTEMS = {"win": "Windows", "macosx": "Darwin", "manylinux": "Linux", "linux": "Linux"}


@dataclass(frozen=True)
class Target:
    """The computers that a bundle is for.

    Attributes:
        python: "3.11".
        system, machine: as Python's `platform` module names them, the machine in lower case.
        tags: pip's names for the platform; none for the computer that makes the bundle.
    """

    python: str
    system: str
    machine: str
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.system.lower()}-{self.machine}-python{self.python}"

    def pip_arguments(self) -> list[str]:
        if not self.tags:
            return []
        chosen = [part for tag in self.tags for part in ("--platform", tag)]
        return ["--python-version", self.python, "--implementation", "cp", *chosen]


def this_computer() -> Target:
    """The computer and the Python that run this."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Target(python, platform.system(), platform.machine().lower())


def target(python: str | None, tags: Sequence[str]) -> Target:
    """The target that the options name, by default this computer.

    Raises:
        ValueError: a platform that pip would not know, or a Python version of another form.
    """
    here = this_computer()
    if python and not re.fullmatch(r"3\.\d+", python):
        raise ValueError(f"--python must look like 3.12, got {python!r}")
    if not tags:
        if python in (None, here.python):
            return here
        raise ValueError(
            f"packages for Python {python} need --platform as well: win_amd64, macosx_11_0_arm64, "
            "manylinux_2_28_x86_64 ..."
        )
    match = re.fullmatch(r"(win|macosx|manylinux|linux)_(?:[\d_]+_)?(\w+)", tags[0])
    if not match:
        raise ValueError(f"--platform must be a name such as win_amd64, got {tags[0]!r}")
    return Target(python or here.python, SYSTEMS[match[1]], match[2], tuple(tags))


def download(
    root: Path, cache: Path, target: Target, wheels_from: Path | None = None
) -> list[Path]:
    """All packages that the course, lesson 21's service and an editable installation need.

    What an earlier call left in `cache` is enough while the pins stay the same: then no network is
    needed. Otherwise pip downloads, through its own cache.

    Args:
        wheels_from: take packages from this folder, and from nowhere else.

    Raises:
        SetupError: pip failed; the message says what to do.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text("utf8"))
    pins = []
    for name in ("requirements.txt", "requirements-serve.txt"):
        lines = (root / name).read_text("utf8").splitlines()
        pins += [line for line in lines if line and not line.startswith("#")]
    pins += project["build-system"]["requires"]  # what pip needs to install the course itself
    partial = cache.with_name(f"{cache.name}.part")
    bundles.fresh(partial)
    sources = [wheels_from] if wheels_from else [cache] if cache.is_dir() else []
    for source in sources:
        try:
            address = source.resolve().as_uri()
            _pip_download(partial, [*pins, "--no-index", "--find-links", address], target)
            break
        except SetupError as error:
            if wheels_from:
                raise SetupError(f"{wheels_from} does not hold all packages. {error}") from None
    else:
        _pip_download(partial, _with_cpu_build(partial, pins, target), target)
    shutil.rmtree(cache, ignore_errors=True)
    partial.rename(cache)
    return sorted(cache.glob("*.whl"))


def _with_cpu_build(folder: Path, pins: Sequence[str], target: Target) -> list[str]:
    """The pins with PyTorch's CPU build, which is in `folder` then, where the set-up takes it."""
    if target.system != "Linux" or not setup_environment.wants_cpu_index():
        return list(pins)
    torch = next(pin for pin in pins if pin.startswith("torch=="))
    try:
        index = ["--no-deps", "--index-url", setup_environment.CPU_INDEX]
        _pip_download(folder, [torch, *index], target)
    except SetupError:
        print("  PyTorch's CPU index did not deliver; trying the usual one.", flush=True)
        return list(pins)
    (wheel,) = folder.glob("torch-*.whl")
    build = f"torch=={wheel.name.split('-')[1]}"
    others = [pin for pin in pins if pin != torch]
    return [build, *others, "--find-links", folder.resolve().as_uri()]


def _pip_download(folder: Path, arguments: Sequence[str], target: Target) -> None:
    options = ["--only-binary", ":all:", "--dest", str(folder), *target.pip_arguments()]
    setup_environment.run_pip(
        "download", *options, *arguments, log=folder.with_name(f"{folder.name}.log")
    )


def write_bundle(
    root: Path, folder: Path, wheels: Sequence[Path], target: Target, course: Path | None = None
) -> None:
    """Write the folder that `bundles.zip_folder` then packs.

    Args:
        wheels: what `download` gave.
        course: the unpacked student bundle, to give that out; None gives the whole course.
    """
    bundles.fresh(folder)
    if course:
        shutil.copytree(course, folder / "course")
    else:
        bundles.copy_course(root, folder / "course")
    (folder / "wheels").mkdir()
    for wheel in wheels:
        _link_or_copy(wheel, folder / "wheels" / wheel.name)
    write_licences(wheels, folder)
    names = {"python": target.python, "system": target.system, "machine": target.machine}
    (folder / "bundle.json").write_text(json.dumps(names, indent=1) + "\n", "utf8")
    readme = (HERE / "offline_README.txt").read_text("utf8")
    (folder / "README.txt").write_text(readme.format(archive=f"{folder.name}.zip", **names), "utf8")
    shutil.copy(HERE / "install.py", folder)
    for name, text in SCRIPTS.items():
        text = text.replace("{python}", target.python)
        text = text.replace("{pair}", target.python.replace(".", ", "))
        (folder / name).write_bytes(text.encode())
    (folder / "install.sh").chmod(0o755)
    write_sums(folder)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy(source, target)


def write_sums(folder: Path) -> None:
    """SHA256SUMS of all files, in the form that `sha256sum --check` reads."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}")
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n", "utf8")


# Licences


def write_licences(wheels: Sequence[Path], folder: Path) -> None:
    """Unpack the licence texts of all packages, and list the packages in LICENCES.md."""
    rows = ["| Package | Version | Licence, as the package names it | Texts |", "|---|---|---|---|"]
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            (about,) = (n for n in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
            metadata = email.message_from_bytes(archive.read(about))
            package = f"{metadata['Name']}-{metadata['Version']}"
            texts = []
            for name in sorted(name for name in names if LICENCE_FILE.search(name)):
                text = Path("licences", package, *Path(name).parts[1:])
                (folder / text).parent.mkdir(parents=True, exist_ok=True)
                (folder / text).write_bytes(archive.read(name))
                texts.append(f"[{text.name}](<{text.as_posix()}>)")
        listed = ", ".join(texts) or "in none of the package's files"
        rows.append(
            f"| {metadata['Name']} | {metadata['Version']} | {licence_name(metadata)} | {listed} |"
        )
    text = "# Licences of the packages in wheels/\n\nThe course itself: course/LICENSE (MIT).\n\n"
    (folder / "LICENCES.md").write_text(text + "\n".join(rows) + "\n", "utf8")


def licence_name(metadata: email.message.Message) -> str:
    """A package's licence in one line, from the newest field of its metadata that it fills."""
    if expression := metadata["License-Expression"]:
        return expression
    prefix = "License :: "
    classifiers = [c for c in metadata.get_all("Classifier", []) if c.startswith(prefix)]
    if classifiers:
        return ", ".join(c.rpartition(" :: ")[2] for c in classifiers)
    lines = (metadata["License"] or "").strip().splitlines()
    return lines[0].strip().replace("|", "/") if lines else "not named"
