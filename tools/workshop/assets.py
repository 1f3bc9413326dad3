"""What slides load in the browser: reveal.js and MathJax, unpacked from pinned wheels."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from tools import setup_environment

PINS = Path(__file__).with_name("assets.txt")
TEMPLATE = Path(__file__).with_name("slides_template")
REVEAL, MATHJAX = "sphinx_revealjs/_static/revealjs", "sphinx-mathjax-offline/static/mathjax"
# In the wheel -> below the slides' folder assets/.
FILES = {
    f"{REVEAL}/dist/reveal.css": "reveal/reveal.css",
    f"{REVEAL}/dist/reveal.js": "reveal/reveal.js",
    f"{REVEAL}/plugin/notes/notes.js": "reveal/notes.js",
    f"{REVEAL}/LICENSE": "reveal/LICENSE",
    f"{MATHJAX}/tex-svg.js": "mathjax/tex-svg.js",
}
# MathJax's wheel leaves its licence out. reveal.js's wheel is under the same licence, and has it.
APACHE = ("sphinx_revealjs-3.2.1.dist-info/licenses/LICENSE", "mathjax/LICENSE")
OWN = ("slides.css", "slides.js")


def fetch(cache: Path) -> list[Path]:
    """The wheels that `assets.txt` names, downloaded unless they lie in `cache`.

    Raises:
        setup_environment.SetupError: pip failed; the message says what to do.
    """
    cache.mkdir(parents=True, exist_ok=True)
    pins = [line for line in PINS.read_text("utf8").splitlines() if not line.startswith("#")]
    arguments = ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    arguments += ["--requirement", str(PINS), "--dest", str(cache)]
    wheels = sorted(cache.glob("*.whl"))
    if len(wheels) == len(pins):  # then no network is needed
        arguments += ["--no-index", "--find-links", str(cache)]
    try:
        setup_environment.run_pip("download", *arguments, log=cache / "pip.log")
    except setup_environment.SetupError as error:
        if wheels:
            shutil.rmtree(cache)  # damaged, or of other versions: the next call starts afresh
        raise setup_environment.SetupError(
            f"reveal.js and MathJax could not be fetched for the slides. {error}"
        ) from None
    return sorted(cache.glob("*.whl"))


def unpack(wheels: list[Path], folder: Path) -> None:
    """Write all that slides load into `folder`.

    Raises:
        FileNotFoundError: the wheels lack one of the files.
    """
    wanted = {**FILES, APACHE[0]: APACHE[1]}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in wanted.keys() & set(archive.namelist()):
                target = folder / wanted.pop(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    if wanted:
        names = ", ".join(wheel.name for wheel in wheels)
        raise FileNotFoundError(f"{sorted(wanted)} are in none of these wheels: {names}")
    for name in OWN:
        shutil.copy(TEMPLATE / name, folder / name)
