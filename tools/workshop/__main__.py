"""Build what a workshop needs into build/workshop/.

    make workshop                                   everything
    make workshop ARGS="--only slides"              student, instructor, slides, offline
    make workshop ARGS="--only slides --lessons 01 02"
    make workshop ARGS="--only offline --course student"
    make workshop ARGS="--only offline --platform win_amd64 --python 3.12"

Slides need the network once, for reveal.js and MathJax (8 MB); the offline bundle needs it for the
packages, until they lie in build/workshop/.cache. Each part can be built again at any time.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools import setup_environment
from tools.setup_environment import SetupError
from tools.workshop import assets, bundles, decks, leaks, usb_stick

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "workshop"
PARTS = ("student", "slides", "instructor", "offline")
# Measured with the CPU build of PyTorch: packages, the bundle's folder and its archive.
NEEDED_GB = 2


class Workshop:
    """Builds the parts; a part that another needs is built first, once."""

    def __init__(self, options: argparse.Namespace, root: Path = ROOT, out: Path = OUT) -> None:
        self.options, self.root, self.out = options, root, out
        self.cache = out / ".cache"
        self._built: dict[str, list[Path]] = {}

    def build(self, part: str) -> list[Path]:
        """Build a part, unless that is done; return what it made."""
        if part not in self._built:
            self._built[part] = getattr(self, f"_{part}")()
        return self._built[part]

    def _student(self) -> list[Path]:
        folder = self.out / bundles.STUDENT
        bundles.write_student(self.root, folder)
        if found := leaks.problems(folder, self.root):
            shutil.rmtree(folder)
            listed = "\n".join(found)
            raise SetupError(f"The student bundle would give away:\n{listed}")
        return [folder, bundles.zip_folder(folder)]

    def _slides(self) -> list[Path]:
        wheels = assets.fetch(self.cache / "assets")
        folder = self.out / "slides"
        bundles.fresh(folder)
        for page in decks.write_decks(self.root, folder, wheels, self.options.lessons):
            print(f"  {page.relative_to(self.root)}", flush=True)
        return [folder]

    def _instructor(self) -> list[Path]:
        solutions = self.out / f"{bundles.SOLUTIONS}.zip"
        bundles.write_solutions(self.root, solutions)
        (slides,) = self.build("slides")
        archive = self.build("student")[1]
        folder = self.out / bundles.INSTRUCTOR
        bundles.write_instructor(self.root, folder, [slides, archive, solutions])
        return [solutions, folder, bundles.zip_folder(folder)]

    def _offline(self) -> list[Path]:
        target = usb_stick.target(self.options.python, self.options.platform)
        if target.tags:
            print(
                "  pip decides by this computer which packages another one needs: try the bundle "
                "on such a computer before the workshop.",
                flush=True,
            )
        setup_environment.check_disk(NEEDED_GB)
        print("  collecting packages; the first time takes some minutes", flush=True)
        wheels = usb_stick.download(
            self.root, self.cache / f"wheels-{target.name}", target, self.options.wheels_from
        )
        course = self.build("student")[0] if self.options.course == "student" else None
        folder = self.out / f"zoo-lessons-offline-{target.name}"
        print(f"  packing {len(wheels)} packages", flush=True)
        usb_stick.write_bundle(self.root, folder, wheels, target, course)
        archive = bundles.zip_folder(folder)
        shutil.rmtree(folder)  # the archive holds the same, and each has a gigabyte
        return [archive]


def size_mb(path: Path) -> float:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files) / 1e6


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make workshop", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--lessons", nargs="+", default=(), help="slides of these: 01 02 ...")
    offline = parser.add_argument_group("the offline bundle")
    offline.add_argument("--course", choices=("whole", "student"), default="whole")
    offline.add_argument("--python", help="for another Python, such as 3.12; needs --platform")
    offline.add_argument("--platform", nargs="+", default=(), help="pip's name, such as win_amd64")
    offline.add_argument("--wheels-from", type=Path, help="take all packages from this folder")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    workshop = Workshop(options)
    started = time.perf_counter()
    try:
        changed, new = bundles.changed_files(ROOT)
        if changed or new:
            print(
                f"Note: {changed} files differ from the last commit, and the bundles hold them as "
                f"they are now; {new} are not in git yet, and are left out.",
                flush=True,
            )
        for part in PARTS:
            if part in options.only:
                print(f"{part}:", flush=True)
                for path in workshop.build(part):
                    print(f"  {path.relative_to(ROOT)}  {size_mb(path):.1f} MB", flush=True)
    except (SetupError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Done in {time.perf_counter() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
