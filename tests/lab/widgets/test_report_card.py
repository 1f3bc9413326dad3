"""Report card: what it shows, its static picture and line."""

from __future__ import annotations

import io

import numpy as np
import pytest
import traitlets
from PIL import Image

from zoo_lessons.claims import CLAIMS
from zoo_lessons.lab.tables import report_card
from zoo_lessons.lab.widgets import ReportCard
from zoo_lessons.records import load_claim

ALL = [load_claim(id) for id in CLAIMS]


def test_same_state_same_picture_and_text():
    first = ReportCard(ALL)
    assert first.static_png() == ReportCard(ALL).static_png()
    assert first.static_text().startswith("ReportCard: 36 of 36 claims: ")
    other = ReportCard(ALL, part="IV")
    assert other.static_png() != first.static_png() and other.static_text() != first.static_text()
    picture = np.asarray(Image.open(io.BytesIO(first.static_png())).convert("L"))
    assert 700 <= picture.shape[1] <= 900 and 0.01 < (picture < 200).mean() < 0.5


@pytest.mark.parametrize(
    "choice",
    [{"part": "II"}, {"verdict": "partly"}, {"word": "int8"}, {"part": "I", "word": "Rnn"}],
)
def test_it_shows_what_the_table_shows(choice):
    table = report_card(ALL, **choice).data
    assert ReportCard(ALL, **choice).chosen() == [id for id in CLAIMS if f"**{id}**" in table] != []


def test_nothing_found_is_said():
    widget = ReportCard(ALL, word="unicorn")
    assert widget.static_text() == "ReportCard: 0 of 36 claims: none"
    assert widget.static_png()


def test_wrong_values_are_refused():
    with pytest.raises(traitlets.TraitError):
        ReportCard(ALL, part="V")
    with pytest.raises(ValueError, match="at least one claim, got none"):
        ReportCard([])
