"""Sphinx's settings of the course's website. `make site` copies this folder and builds there."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tools.website import docstrings

ROOT = Path(__file__).resolve().parents[2]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]

project = "Transformer Zoo Lessons"
release = _PROJECT["version"]
copyright = "the authors of Transformer Zoo Lessons, MIT licence"
language = "en"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]

# Lessons: shown as they are stored, never executed.
nb_execution_mode = "off"
nb_code_prompt_show = "Show the set-up cell"  # the only cell that is folded
nb_code_prompt_hide = "Hide the set-up cell"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # links and formulas in outputs are those of the text
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4
# The anchors that links between lessons use.
myst_heading_slug_func = "zoo_lessons.lab.anchors.heading_anchor"
# Fields of one name in several classes: which is meant does not matter, for none is a link.
suppress_warnings = ["ref.python"]

# Formulas, without a network.
mathjax_path = "mathjax/tex-svg.js"

# The library's reference.
default_role = "literal"  # docstrings write code between single backticks, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # PyTorch's and NumPy's names have no pages here

# Looks.
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_permalinks_icon = "#"
html_theme_options = {"navigation_with_keys": True}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


def setup(app):
    # Before napoleon, which reads what this leaves.
    app.connect("autodoc-process-docstring", docstrings.process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
