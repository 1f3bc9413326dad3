#!/usr/bin/env python3
"""Install the course from this folder, without a network.

    sh install.sh [FOLDER] [--serve]           Linux, macOS
    install.bat [FOLDER] [--serve]             Windows

FOLDER is where the course goes; by default `transformer-zoo-lessons` in your home folder. --serve
adds what lesson 21 needs. What is already there is kept, so a second call is safe.

It needs Python and its standard library only.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUMS = "SHA256SUMS"
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description="Install the course without a network.")
    parser.add_argument("folder", nargs="?", type=Path, help="default: in your home folder")
    parser.add_argument("--serve", action="store_true", help="add what lesson 21 needs")
    options = parser.parse_args()
    folder = (options.folder or Path.home() / "transformer-zoo-lessons").expanduser().resolve()
    complaint = machine_problem() or check_sums()
    if not complaint:
        copy_course(folder)
        complaint = set_up(folder, ["--serve"] if options.serve else [])
    if complaint:
        print(complaint, file=sys.stderr)
        return 1
    start = "make lab" if os.name == "posix" else r".venv\Scripts\python tools\start_lab.py"
    print(f"The course is in {folder}. To open it, type there: {start}")
    return 0


def machine_problem() -> str:
    """Why these packages cannot fit this computer; empty if they can."""
    made_for = json.loads((HERE / "bundle.json").read_text("utf8"))
    wanted = (made_for["system"], made_for["machine"], made_for["python"])
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    here = (platform.system(), platform.machine().lower(), version)
    if here == wanted:
        return ""
    return (
        f"This bundle is for {' '.join(wanted[:2])} with Python {wanted[2]}, and this is "
        f"{' '.join(here[:2])} with Python {version}: ask for a bundle made for this computer."
    )


def check_sums() -> str:
    """Which files were damaged or lost on the way; empty if none."""
    lines = (HERE / SUMS).read_text("utf8").splitlines()
    print(f"Checking {len(lines)} files.", flush=True)
    for line in lines:
        wanted, name = line.split("  ", 1)
        path = HERE / name
        if not path.is_file():
            return f"{name} is missing: copy or unpack the bundle again."
        if sha256(path) != wanted:
            return f"{name} was damaged on the way: copy or unpack the bundle again."
    return ""


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def copy_course(folder: Path) -> None:
    """Copy what is not there yet: a learner's own changes stay."""
    print(f"Copying the course to {folder}.", flush=True)
    course = HERE / "course"
    for source in sorted(path for path in course.rglob("*") if path.is_file()):
        target = folder / source.relative_to(course)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def set_up(folder: Path, extras: list[str]) -> str:
    """Run the course's own set-up on the bundle's packages; what failed, or nothing."""
    environment = {name: value for name, value in os.environ.items() if name[:4] != "PIP_"}
    environment |= {
        "PIP_NO_INDEX": "1",
        # An address, because pip cuts a plain path at its blanks.
        "PIP_FIND_LINKS": (HERE / "wheels").as_uri(),
        "PIP_CONFIG_FILE": os.devnull,
    }
    command = [sys.executable, str(folder / "tools" / "setup_environment.py"), *extras]
    if subprocess.run(command, cwd=folder, env=environment).returncode:
        return f"The course could not be installed in {folder}; the line above says why."
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
