"""T2T-ViT has no reference in transformers: each step against a loop, and the published size."""

from dataclasses import replace

import pytest
import torch

from zoo_lessons.layers import record_attention, scaled_dot_product_attention
from zoo_lessons.models.t2t_vit import SPLITS, T2TViT, T2TViTConfig, soft_split
from zoo_lessons.parity import randomise

SMALL = T2TViTConfig(
    image_size=32, num_channels=2, d_token=6, d_model=8, num_layers=2, num_heads=2, num_labels=5
)


def small_model(splits=SPLITS):
    return randomise(T2TViT(replace(SMALL, splits=splits))).double()


def split_by_loop(grid, kernel, stride, padding):
    batch, channels, rows, columns = grid.shape
    padded = torch.zeros(batch, channels, rows + 2 * padding, columns + 2 * padding).to(grid)
    padded[:, :, padding : padding + rows, padding : padding + columns] = grid
    tokens = []
    for top in range(0, rows + 2 * padding - kernel + 1, stride):
        for left in range(0, columns + 2 * padding - kernel + 1, stride):
            tokens.append(padded[:, :, top : top + kernel, left : left + kernel].flatten(1))
    return torch.stack(tokens, dim=1)


@pytest.mark.parametrize("split", sorted(set(SPLITS)))
def test_split_against_a_loop(split):
    grid = torch.randn(2, 3, 16, 24)
    torch.testing.assert_close(soft_split(grid, *split), split_by_loop(grid, *split))


@pytest.mark.parametrize(
    ("splits", "expected_sides"),
    [
        (SPLITS, [8, 4, 2]),
        (((5, 2, 2), (3, 1, 1)), [16, 16]),
        (((4, 4, 0),), [8]),  # patches that do not overlap, and no layer between
    ],
)
def test_tokeniser_step_by_step(splits, expected_sides):
    """The whole tokeniser, with loops for the splits and the formula for attention."""
    whole_model = small_model(splits)
    model = whole_model.tokens_to_token
    images = torch.randn(2, 2, 32, 32, dtype=torch.float64)
    grid, sides = images, []
    for split, layer in zip(splits[:-1], model.layers, strict=True):
        x = layer.norm(split_by_loop(grid, *split))
        q, k, v = (x @ layer.attention.qkv.weight.T).chunk(3, dim=-1)
        x = v + layer.attention.out(scaled_dot_product_attention(q, k, v)[0])
        x = x + layer.feed_forward(layer.residual.norm(x))
        side = int(x.shape[1] ** 0.5)
        sides.append(side)
        grid = torch.stack([row.T.reshape(-1, side, side) for row in x])
    expected = model.project(split_by_loop(grid, *splits[-1]))
    assert [*sides, whole_model.config.grid_size] == expected_sides
    assert expected.shape == (2, expected_sides[-1] ** 2, 8)
    torch.testing.assert_close(model(images), expected)
    assert whole_model(images).logits.shape == (2, 5)


def test_block_against_pytorch():
    block = small_model().layers[0]
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(block.attention.qkv.weight)
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(block.attention.out.weight)
        theirs.out_proj.bias.copy_(block.attention.out.bias)
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    y = block.residual1.norm(x)
    expected = x + theirs(y, y, y)[0]
    expected = expected + block.feed_forward(block.residual2.norm(expected))
    torch.testing.assert_close(block(x), expected)


def test_neighbouring_tokens_overlap():
    """One pixel on an edge between patches changes several tokens; in ViT it changes one."""
    grid = torch.zeros(1, 1, 32, 32)
    grid[0, 0, 15, 15] = 1.0
    touched = soft_split(grid, *SPLITS[0]).any(dim=-1).sum().item()
    assert touched == 4


def test_output():
    model = small_model()
    images = torch.randn(3, 2, 32, 32, dtype=torch.float64)
    with torch.no_grad(), record_attention(model) as maps:
        output = model(images)
        flipped = model(images.flip(-1))
    assert output.logits.shape == (3, 5)
    assert output.last_hidden_state.shape == (3, 1 + 4, 8)
    assert (output.logits - flipped.logits).abs().max() > 1e-3
    assert maps[0].weights.shape == (3, 1, 64, 64) and maps[3].weights.shape == (3, 2, 5, 5)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="image_size=40 must be divisible by strides=16"):
        T2TViTConfig(image_size=40)
    with pytest.raises(ValueError, match="splits is empty"):
        T2TViTConfig(splits=())
    with pytest.raises(ValueError, match=r"shape \(1, 2, 32, 48\), expected \(batch, 2, 32, 32\)"):
        small_model()(torch.zeros(1, 2, 32, 48, dtype=torch.float64))


@pytest.mark.parametrize(
    ("config", "millions"), [(T2TViTConfig.t2t_vit_14(), 21.5), (T2TViTConfig.t2t_vit_19(), 39.2)]
)
def test_published_sizes(config, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in T2TViT(config).parameters())
    assert round(count / 1e6, 1) == millions
