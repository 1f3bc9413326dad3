import pytest
import torch

from zoo_lessons.layers import causal_mask
from zoo_lessons.layers.two_stream import two_stream_masks


def test_left_to_right_is_the_causal_mask():
    content, query = two_stream_masks(range(5))
    assert torch.equal(content, causal_mask(5))
    assert torch.equal(query, causal_mask(5) & ~torch.eye(5, dtype=torch.bool))


def test_figure_of_the_paper():
    # the example of figure 1: factorization order 3 -> 2 -> 4 -> 1, counted from 0 here
    content, query = two_stream_masks([2, 1, 3, 0])
    assert content.int().tolist() == [[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 1, 0], [0, 1, 1, 1]]
    assert torch.equal(query, content & ~torch.eye(4, dtype=torch.bool))


@pytest.mark.parametrize("order", [[0, 0, 1], [1, 2, 3], [0, 2]])
def test_not_an_order(order):
    with pytest.raises(ValueError, match="each of 0 to"):
        two_stream_masks(order)
