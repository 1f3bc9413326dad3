"""The mask explorer's Python side: patterns, custom masks, errors, the static picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import traitlets

from zoo_lessons.lab.widgets import MaskExplorer
from zoo_lessons.lab.widgets.mask_explorer import PATTERNS
from zoo_lessons.layers import causal_mask, padding_mask


def test_causal_and_padding_agree_with_the_layers():
    causal = MaskExplorer(7, pattern="causal").mask()
    np.testing.assert_array_equal(causal, causal_mask(7).numpy())
    attention_mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
    padded = padding_mask(attention_mask)[0, 0].expand(7, 7)
    shown = MaskExplorer(7, pattern="padding", padding=2).mask()
    np.testing.assert_array_equal(shown, padded.numpy())
    both = MaskExplorer(7, pattern="causal + padding", padding=2).mask()
    np.testing.assert_array_equal(both, (padded & causal_mask(7)).numpy())


def test_sliding_windows():
    shown = MaskExplorer(5, pattern="sliding window", window=1).mask()
    band = np.abs(np.subtract.outer(range(5), range(5))) <= 1
    np.testing.assert_array_equal(shown, band)
    causal = MaskExplorer(5, pattern="causal sliding window", window=1).mask()
    np.testing.assert_array_equal(causal, np.tril(band))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_has_a_picture_and_a_line_of_text(pattern):
    explorer = MaskExplorer(8, pattern=pattern)
    assert explorer.mask().shape == (8, 8)
    assert explorer.static_png() == MaskExplorer(8, pattern=pattern).static_png()
    assert explorer.static_text().startswith(f"MaskExplorer: {pattern}, 8 queries x 8 keys")


def sparse(length, pattern, **options):
    return MaskExplorer(length, pattern=pattern, sparse=True, **options)


def test_sparse_patterns_are_unions():
    window = MaskExplorer(15, pattern="sliding window", window=1).mask()
    with_global = sparse(15, "window + global", window=1, global_tokens=2).mask()
    index = np.arange(15)
    is_global = (index[:, None] < 2) | (index < 2)
    np.testing.assert_array_equal(with_global, window | is_global)
    options = {"window": 1, "random_blocks": 2, "block": 4}
    with_random = sparse(15, "window + random", **options).mask()
    union = sparse(15, "window + global + random", global_tokens=2, **options).mask()
    np.testing.assert_array_equal(union, with_random | with_global)
    drawn = sparse(15, "window + random", window=0, random_blocks=2, block=4).mask()
    for own in range(4):  # all queries of a block draw the same two blocks
        rows = drawn[4 * own : 4 * own + 4] & ~np.eye(15, dtype=bool)[4 * own : 4 * own + 4]
        blocks = {j // 4 for j in np.flatnonzero(rows.any(axis=0))}
        assert len(blocks - {own}) in (1, 2)
        for j in blocks - {own}:
            assert rows[:, 4 * j : 4 * j + 4].all()


def test_reach_over_layers():
    """A window's reach grows by its radius with each layer; one global token joins all in two."""
    for layers in (1, 2, 3, 8):
        shown = sparse(20, "sliding window", window=2, layers=layers)
        apart = np.abs(np.subtract.outer(range(20), range(20)))
        np.testing.assert_array_equal(shown.reach(), apart <= 2 * layers)
    assert sparse(20, "window + global", window=1, global_tokens=1, layers=2).reach().all()
    assert sparse(20, "causal", layers=5).reach().sum() == 210
    text = sparse(20, "sliding window", window=2, layers=3).static_text()
    assert text.endswith("allowed (24%); after 3 layers a query reaches 7 to 13")
    one, three = (sparse(20, "causal sliding window", layers=n).static_png() for n in (1, 3))
    assert one != three
    assert MaskExplorer(masks={"mine": np.ones((3, 5), bool)}, layers=2).reach().shape == (3, 5)


def test_sparse_patterns_are_offered_on_request_only():
    with pytest.raises(ValueError, match="'window \\+ global' is none of"):
        MaskExplorer(pattern="window + global")
    with pytest.raises(ValueError, match="layers=9 must be between 1 and 8"):
        MaskExplorer(layers=9)


def test_text_states_the_density():
    assert MaskExplorer(4).static_text() == (
        "MaskExplorer: causal, 4 queries x 4 keys, 10 of 16 pairs allowed (62%)"
    )


def test_own_masks_come_first_and_may_be_tensors_with_leading_axes():
    mine = torch.ones(1, 1, 3, 5, dtype=torch.bool)
    mine[..., 4] = False
    explorer = MaskExplorer(masks={"my mask": mine})
    assert explorer.pattern == "my mask"
    np.testing.assert_array_equal(explorer.mask(), mine[0, 0].numpy())
    sent = explorer._masks[0]
    assert (sent["queries"], sent["keys"], sum(sent["allowed"])) == (3, 5, 12)


def test_tokens_give_the_length():
    assert MaskExplorer(tokens=["a", "b", "c"], padding=1).mask().shape == (3, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"length": 0}, ValueError, "length=0 must be between 1 and 64"),
        ({"length": 65}, ValueError, "length=65"),
        ({"length": 4, "padding": 5}, ValueError, "padding=5 must be between 0 and 4"),
        ({"window": -1}, ValueError, "window=-1"),
        ({"head_dim": 0}, ValueError, "head_dim=0"),
        ({"pattern": "diagonal"}, ValueError, "pattern='diagonal' is none of"),
        ({"masks": {"causal": np.ones((3, 3), bool)}}, ValueError, "'causal' is a built-in"),
        ({"masks": {"m": np.ones((3, 3))}}, TypeError, "mask 'm' must be boolean.*float64"),
        ({"masks": {"m": np.ones((2, 3, 3), bool)}}, ValueError, r"got \(2, 3, 3\)"),
        ({"masks": {"m": np.ones((3, 65), bool)}}, ValueError, r"\(3, 65\); both sides"),
    ],
)
def test_wrong_arguments_are_refused_with_a_reason(options, error, message):
    with pytest.raises(error, match=message):
        MaskExplorer(**options)


def test_traits_are_checked_after_construction_too():
    explorer = MaskExplorer()
    with pytest.raises((ValueError, traitlets.TraitError), match="pattern='x' is none of"):
        explorer.pattern = "x"
    explorer.length = 20
    assert explorer.mask().shape == (20, 20)
