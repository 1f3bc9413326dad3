"""RoPE rotor: its products are those of the library's rotary positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import traitlets

from zoo_lessons.lab.widgets import RoPERotor
from zoo_lessons.layers.positions import Rotary


def rotated_products(widget: RoPERotor, m: int, n: int) -> np.ndarray:
    """Products pair by pair, from the library's rotation of the widget's vectors."""
    pairs = widget.head_dim // 2
    same = {name: [0.0] * pairs for name in "qk"}
    angles = widget.angles if widget.vectors == "random" else same
    rotary = Rotary(widget.head_dim, widget.base, interleaved=True)
    turned = []
    for name, position in (("q", m), ("k", n)):
        angle = torch.tensor(angles[name][:pairs], dtype=torch.float64)
        vector = torch.stack([angle.cos(), angle.sin()], -1).flatten()[None]
        turned.append(rotary.rotate(vector, position))
    return (turned[0] * turned[1]).unflatten(-1, (pairs, 2)).sum(-1)[0].numpy()


@pytest.mark.parametrize("vectors", ["same", "random"])
@pytest.mark.parametrize(("head_dim", "base"), [(8, 100), (32, 10000), (128, 100000)])
def test_products_are_those_of_the_library(vectors, head_dim, base):
    widget = RoPERotor(vectors=vectors, head_dim=head_dim, base=base, pair=1)
    for m, n in ((0, 0), (12, 4), (3, 90)):
        expected = rotated_products(widget, m, n)
        np.testing.assert_allclose(widget.pair_products(m - n), expected, atol=1e-9)


def test_products_take_many_distances_at_once():
    widget = RoPERotor(vectors="random")
    distances = np.arange(-3, 4)
    table = widget.pair_products(distances)
    assert table.shape == (7, 16)
    np.testing.assert_array_equal(table[5], widget.pair_products(2))


def test_text_gives_the_products():
    products = RoPERotor(m=9, n=2).pair_products(7)
    text = RoPERotor(m=9, n=2).static_text()
    assert f"product of pair 4 {products[4]:.3f}, of all 16 pairs {products.sum():.2f}" in text


def test_a_pair_beyond_the_head_is_refused():
    with pytest.raises(ValueError, match="pair=4 must be below head_dim / 2 = 4"):
        RoPERotor(head_dim=8)


@pytest.mark.parametrize("bad", [{"m": -1}, {"n": 129}, {"shift": 1001}, {"head_dim": 9}])
def test_other_values_are_refused(bad):
    with pytest.raises(traitlets.TraitError):
        RoPERotor(**bad)
