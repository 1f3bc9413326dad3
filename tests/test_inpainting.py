"""Holes in images are filled as the docstrings say, and only the holes."""

from __future__ import annotations

import torch

from zoo_lessons.inpainting import fill_smoothly, fill_with_mean, hidden_pixels, masked_error


def random_mask(batch=3, patches=12):
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(batch, patches, generator=generator) < 0.6).double()
    mask[:, 0], mask[:, 1] = 0, 1  # some of each
    return mask


def images(batch=3, channels=2):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, channels, 6, 8, generator=generator, dtype=torch.float64)


def test_a_mask_over_pixels_covers_whole_patches():
    mask = torch.tensor([[0, 1, 0, 0, 0, 1]])
    pixels = hidden_pixels(mask, 2, 4, 6)[0, 0]
    assert pixels.tolist() == [[0, 0, 1, 1, 0, 0]] * 2 + [[0, 0, 0, 0, 1, 1]] * 2


def test_the_mean_is_that_of_visible_pixels():
    x, mask = images(), random_mask()
    filled, hidden = fill_with_mean(x, mask, 2), hidden_pixels(mask, 2, 6, 8)[:, 0].bool()
    for image, result, holes in zip(x, filled, hidden, strict=True):
        assert torch.equal(result[:, ~holes], image[:, ~holes])
        mean = image[:, ~holes].mean(dim=-1, keepdim=True)
        torch.testing.assert_close(result[:, holes], mean.expand(-1, int(holes.sum())))


def test_a_straight_slope_is_restored():
    # A plane solves the Laplace equation, if its edge is given.
    row, column = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    plane = (2 * row - 3 * column)[None, None].double()
    mask = torch.ones(1, 25, dtype=torch.float64)
    edge = torch.ones(5, 5, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    mask[0, edge.flatten()] = 0
    torch.testing.assert_close(fill_smoothly(plane, mask, 2, iterations=500), plane)


def test_visible_pixels_stay():
    x, mask = images(), random_mask()
    visible = (1 - hidden_pixels(mask, 2, 6, 8)).expand_as(x).bool()
    assert torch.equal(fill_smoothly(x, mask, 2)[visible], x[visible])


def test_error_counts_hidden_patches_only():
    x, mask = images(), random_mask()
    hidden = hidden_pixels(mask, 2, 6, 8)
    painted = x + 0.5 * hidden + 7 * (1 - hidden)
    torch.testing.assert_close(masked_error(painted, x, mask, 2), torch.full((3,), 0.25).double())
