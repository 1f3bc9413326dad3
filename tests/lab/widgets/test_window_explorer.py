"""The window explorer's Python side, against the Swin model of the library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import traitlets

from zoo_lessons.lab.widgets import WindowExplorer
from zoo_lessons.models.swin import WindowAttention, shifted_window_mask, window_partition


def swin_pairs(rows: int, columns: int, size: int, shift: int) -> np.ndarray:
    """Who may attend to whom in one layer, bool (tokens, tokens), by the model's own steps."""
    tokens = torch.arange(rows * columns).view(1, rows, columns, 1)
    windows = window_partition(tokens.roll((-shift, -shift), dims=(1, 2)), size).squeeze(-1)
    pairs = torch.zeros(rows * columns, rows * columns, dtype=torch.bool)
    masks = shifted_window_mask(rows, columns, size, shift) if shift else [True] * len(windows)
    for window, mask in zip(windows, masks, strict=True):
        pairs[window[:, None], window] = mask
    return pairs.numpy()


def swin_reach(shown: WindowExplorer) -> np.ndarray:
    """`WindowExplorer.reach` by following the model's pairs back from the query."""
    rows, columns, size = shown.rows, shown.columns, shown.window_size
    alone = size == min(rows, columns)
    reached = np.full(rows * columns, -1)
    reached[shown.query] = 0
    for step in range(1, shown.layers + 1):
        layer = shown.layers - step + 1
        shifted = shown.shifted and layer % 2 == 0 and not alone
        pairs = swin_pairs(rows, columns, size, size // 2 if shifted else 0)
        met = pairs[reached >= 0].any(axis=0)
        reached[met & (reached < 0)] = step
    return reached.reshape(rows, columns)


@pytest.mark.parametrize(("rows", "columns", "size"), [(8, 8, 4), (6, 9, 3), (4, 8, 4), (12, 4, 2)])
@pytest.mark.parametrize("shifted", [True, False])
def test_reach_is_swins(rows, columns, size, shifted):
    shown = WindowExplorer(rows, columns, size, shifted=shifted)
    for layers in (1, 2, 3, 5):
        for query in (0, columns - 1, rows * columns // 2 + 1, rows * columns - 1):
            shown.layers, shown.query = layers, query
            np.testing.assert_array_equal(shown.reach(), swin_reach(shown))


def test_reach_is_where_a_model_has_gradients():
    torch.manual_seed(0)
    shown = WindowExplorer(8, 8, 4, layers=3, query=10)
    x = torch.randn(1, 8, 8, 4, requires_grad=True)
    y = x
    for layer in range(1, 4):
        y = y + WindowAttention(4, 1, 4, shown.shift(layer))(y)
    y[0, 10 // 8, 10 % 8].sum().backward()
    touched = x.grad[0].abs().sum(-1) > 0
    np.testing.assert_array_equal(shown.reach() >= 0, touched.numpy())


@pytest.mark.parametrize("query", range(0, 64, 7))
def test_the_mask_is_that_of_the_querys_window(query):
    shown = WindowExplorer(8, 8, 4, layers=2, query=query)
    tokens = torch.from_numpy(shown.rolled())[None, :, :, None]
    windows = window_partition(tokens, 4).squeeze(-1)
    which = int((windows == query).any(dim=1).nonzero())
    expected = shifted_window_mask(8, 8, 4, 2)[which].numpy()
    np.testing.assert_array_equal(shown.mask(), expected)
    shown.layers = 1
    assert shown.mask().all()


def test_shifts_only_where_swin_has_them():
    shown = WindowExplorer(8, 8, 4)
    assert [shown.shift(layer) for layer in (1, 2, 3, 4)] == [0, 2, 0, 2]
    shown.window_size = 8
    assert shown.shift(2) == 0
    shown.window_size, shown.shifted = 4, False
    assert shown.shift(2) == 0


def test_traits_stay_in_range():
    shown = WindowExplorer(6, 12, 3)
    assert shown.window_sizes == [2, 3, 6]
    with pytest.raises(traitlets.TraitError, match=r"window_size=4 must divide rows=6"):
        shown.window_size = 4
    with pytest.raises(traitlets.TraitError, match=r"query=72 is outside 0\.\.71"):
        shown.query = 72
    with pytest.raises(traitlets.TraitError):
        shown.layers = 13


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 8, 4), r"rows=1 is outside 2\.\.32"),
        ((8, 33, 4), r"columns=33 is outside"),
        ((8, 8, 3), r"window_size=3 must divide rows=8 and columns=8: one of \[2, 4, 8\]"),
        ((7, 8, 4), "no window from 2 on divides rows=7 and columns=8"),
    ],
)
def test_other_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WindowExplorer(*arguments)


def test_text_and_picture_follow_the_state():
    shown, again = WindowExplorer(8, 8), WindowExplorer(8, 8)
    assert shown.static_text() == again.static_text()
    assert shown.static_text() == (
        "WindowExplorer: 8 x 8 tokens in windows of 4 x 4, every second layer shifted; after 2 "
        "layers 32 of 64 tokens have reached row 3, column 7"
    )
    assert shown.static_png() == again.static_png()
    assert len(shown.static_png()) < 60_000
    again.query = 0
    assert shown.static_png() != again.static_png()
    again.shifted = False
    assert "never shifted; after 2 layers 16 of 64" in again.static_text()
