"""Anchors of headings, and links that lead to them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from nbconvert.filters import markdown2html

from zoo_lessons.claims import CLAIMS
from zoo_lessons.lab.anchors import cell_link, heading_anchor, headings, percent_markdown
from zoo_lessons.records import load_claim

ROOT = Path(__file__).resolve().parents[2]


def test_an_anchor_is_the_text_with_hyphens():
    assert heading_anchor(" 14 · What helped? ") == "14-·-What-helped?"
    assert heading_anchor("The `fit` loop, **once**") == "The-fit-loop,-once"


def test_headings_are_those_of_markdown_not_of_code():
    text = "# One\ntext # not\n```\n# a comment\n```\n### Two  \n#tag"
    assert headings(text) == ["One", "Two"]


def test_percent_format_gives_its_markdown_cells():
    source = "# ---\n# a\n# ---\n\n# %% [markdown]\n# ## A\n#\n# b\n\n# %%\n# # no heading\nx = 1\n"
    assert headings(percent_markdown(source)) == ["A"]
    assert percent_markdown(source).startswith("\n## A\n\nb\n")


def test_a_link_is_encoded_as_a_browser_encodes_it():
    link = "18_better_data.ipynb#14-%C2%B7-What-helped?"
    assert cell_link("18#14-·-What-helped?") == link
    assert cell_link("19#BERT's-figures").endswith("#BERT's-figures")
    with pytest.raises(ValueError, match="cell '18' must be lesson#heading"):
        cell_link("18")
    with pytest.raises(KeyError, match="99"):
        cell_link("99#x")


@pytest.mark.parametrize("claim_id", CLAIMS)
def test_every_claim_links_to_a_heading_of_the_stored_notebook(claim_id):
    """The file is there, and a viewer that is built on nbconvert gives it that anchor."""
    file, _, fragment = cell_link(load_claim(claim_id)["cell"]).partition("#")
    nb = nbformat.read(ROOT / "notebooks" / file, as_version=4)
    text = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    (heading,) = [each for each in headings(text) if heading_anchor(each) == unquote(fragment)]
    assert f'id="{fragment}"' in unquote_ids(markdown2html(f"## {heading}"), fragment)


def unquote_ids(html: str, fragment: str) -> str:
    """nbconvert may write the anchor encoded or not; a browser finds both."""
    return html.replace(f'id="{unquote(fragment)}"', f'id="{fragment}"')
