"""DiT: its published sizes, its start, and what its answer depends on."""

import pytest
import torch

from zoo_lessons.models.diffusion_transformer import DiT, DiTConfig
from zoo_lessons.parity import randomise

CONFIG = DiTConfig(
    image_size=6,
    patch_size=2,
    num_channels=2,
    d_model=16,
    num_layers=2,
    num_heads=2,
    d_ff=20,
    num_classes=3,
    num_timesteps=40,
    time_features=8,
)


def inputs(batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 2, 6, 6, generator=generator)
    return images, torch.tensor([1, 40, 7]), torch.tensor([0, 3, 2])


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (DiTConfig.small(), 33),  # table 1 of the paper
        (DiTConfig(d_model=768, num_heads=12, d_ff=3072), 130),
        (DiTConfig(d_model=1024, num_layers=24, num_heads=16, d_ff=4096), 458),
        (DiTConfig.extra_large(), 675),
    ],
)
def test_it_is_as_large_as_published(config, millions):
    with torch.device("meta"):
        model = DiT(config)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions


def test_it_starts_by_saying_nothing_and_every_block_as_the_identity():
    model = DiT(CONFIG)
    assert torch.equal(model(*inputs()).noise, torch.zeros(3, 2, 6, 6))
    x, condition = torch.randn(3, 9, 16), torch.randn(3, 16)
    assert torch.equal(model.layers[0](x, condition), x)


def test_the_answer_depends_on_every_input_of_its_own_row_alone():
    model = randomise(DiT(CONFIG).double(), scale=0.4).eval()
    images, timesteps, labels = inputs()
    images = images.double()
    before = model(images, timesteps, labels).noise
    assert before.shape == images.shape
    changed = {
        "image": (images + torch.tensor([1.0, 0, 0]).view(-1, 1, 1, 1), timesteps, labels),
        "time": (images, timesteps + torch.tensor([1, 0, 0]), labels),
        "label": (images, timesteps, labels + torch.tensor([1, 0, 0])),
    }
    for name, arguments in changed.items():
        after = model(*arguments).noise
        assert (after[0] - before[0]).abs().max() > 1e-3, name
        torch.testing.assert_close(after[1:], before[1:])


def test_each_patch_knows_where_it_stands():
    """With the patches swapped, the answers are not just swapped."""
    model = randomise(DiT(CONFIG).double(), scale=0.4).eval()
    images, timesteps, labels = inputs()
    images = images.double()
    right = model(images, timesteps, labels).noise
    mirrored = images.unflatten(3, (3, 2)).flip(3).flatten(3)
    back = model(mirrored, timesteps, labels).noise.unflatten(3, (3, 2)).flip(3).flatten(3)
    assert (right - back).abs().max() > 1e-3
    model.positions.zero_()
    torch.testing.assert_close(
        model(images, timesteps, labels).noise,
        model(mirrored, timesteps, labels).noise.unflatten(3, (3, 2)).flip(3).flatten(3),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(3, 1, 6, 6)}, r"pixel_values has shape \(3, 1, 6, 6\)"),
        ({"timesteps": torch.tensor([1, 2])}, r"timesteps has shape \(2,\), expected \(3,\)"),
        ({"timesteps": torch.tensor([1, 2, 41])}, "timesteps holds 1 to 41, expected 0 to 40"),
        ({"labels": torch.tensor([0, 1, 4])}, "labels holds 0 to 4, expected 0 to 3"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change, message):
    given = dict(zip(("images", "timesteps", "labels"), inputs(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        DiT(CONFIG)(*given.values())


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="image_size=7 must be divisible by patch_size=2"):
        DiTConfig(image_size=7)
    with pytest.raises(ValueError, match="d_model=18 must be divisible"):
        DiTConfig(d_model=18)
