"""The similarity explorer's Python side: loss, gradients, checks, the static picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import traitlets
from torch.nn import functional as F

from zoo_lessons.contrastive import contrastive_loss, matching_loss, same_captions
from zoo_lessons.lab.widgets import SimilarityExplorer

CAPTIONS = ["a red circle", "a blue moon", "a red circle", "a green ring"]


def embeddings(count=4, width=6):
    both = torch.randn(2, count, width, generator=torch.Generator().manual_seed(0))
    return F.normalize(both.double(), dim=-1)


def made(**changes):
    images, texts = embeddings()
    return {"cosines": images @ texts.T, "captions": CAPTIONS} | changes


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_numbers_are_the_librarys(share, temperature):
    images, texts = embeddings()
    # as the widget gets them: in float32
    cosines = (images @ texts.T).float().double().requires_grad_()
    scale = torch.tensor(math.log(1 / temperature), dtype=torch.float64, requires_grad=True)
    same = same_captions(CAPTIONS) if share else None
    loss = matching_loss(cosines * scale.exp(), same)
    loss.backward()
    shown = SimilarityExplorer(**made(), temperature=temperature, share=share).numbers
    assert shown.loss == pytest.approx(loss.item(), rel=1e-9)
    np.testing.assert_allclose(shown.gradient, cosines.grad, atol=1e-9)
    assert shown.temperature_gradient == pytest.approx(-scale.grad.item(), rel=1e-6, abs=1e-9)
    expected = contrastive_loss(images, texts, math.log(1 / temperature), same)
    assert shown.loss == pytest.approx(expected.item(), rel=1e-4)
    np.testing.assert_allclose(shown.rows.sum(1), 1)
    np.testing.assert_allclose(shown.columns.sum(0), 1)


def test_the_curve_passes_through_the_shown_loss():
    shown = SimilarityExplorer(**made(), temperature=0.3)
    assert shown.losses(np.array([0.3]))[0] == pytest.approx(shown.numbers.loss)


def test_equal_captions_match_unless_told_otherwise():
    assert SimilarityExplorer(**made()).same.sum() == 6
    own = np.eye(4, dtype=bool)
    assert SimilarityExplorer(**made(same=own)).same.sum() == 4


def test_everything_is_sent_once_as_bytes():
    images = np.zeros((4, 8, 8, 3))
    payload = SimilarityExplorer(**made(images=images))._payload
    sizes = {name: len(value) for name, value in payload.items() if isinstance(value, bytes)}
    assert sizes == {"cosines": 16 * 4, "same": 16, "images": 4 * 8 * 8 * 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cosines": np.zeros((3, 4))}, r"shape \(3, 4\) for 4 captions"),
        ({"cosines": np.eye(25), "captions": list(map(str, range(25)))}, "2 to 24"),
        ({"cosines": 2 * np.eye(4)}, "divide embeddings by their norms"),
        ({"cosines": np.full((4, 4), np.nan)}, "between -1 and 1"),
        ({"same": np.zeros((4, 4))}, "True on its diagonal"),
        ({"images": np.zeros((4, 8, 8))}, r"expected \(4, height, width, 3\)"),
        ({"images": np.zeros((3, 8, 8, 3))}, r"expected \(4, height, width, 3\)"),
    ],
)
def test_arrays_must_fit_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        SimilarityExplorer(**made(**changes))


def test_no_numbers():
    with pytest.raises(TypeError, match="expected numbers"):
        SimilarityExplorer(**made(cosines=np.full((4, 4), "a")))


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.001}, {"temperature": 2.0}, {"view": "rowz"}]
)
def test_state_stays_in_range(changes):
    with pytest.raises(traitlets.TraitError):
        SimilarityExplorer(**made(), **changes)


def test_the_cell_stays_in_the_matrix():
    shown = SimilarityExplorer(**made())
    shown.cell = 15
    with pytest.raises(traitlets.TraitError, match=r"cell=16 is outside 0\.\.15"):
        shown.cell = 16


@pytest.mark.parametrize("images", [None, np.zeros((4, 8, 8, 3))])
def test_text_and_picture_follow_the_state(images):
    shown = SimilarityExplorer(**made(images=images))
    assert shown.static_text().startswith("SimilarityExplorer: 4 images against 4 texts, showing")
    first = shown.static_png()
    assert first == SimilarityExplorer(**made(images=images)).static_png()
    for change in ({"view": "gradient"}, {"temperature": 0.5}, {"share": True}):
        for name, value in change.items():
            setattr(shown, name, value)
        assert shown.static_png() != first
        first = shown.static_png()
