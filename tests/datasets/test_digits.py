"""Digits and photographs: shapes, ranges, and splits that do not leak."""

import pytest
import torch

from zoo_lessons.datasets.digits import SPLITS, digits, photographs, writer_starts


def _sorted_keys(images):
    """A whole number for each image, the same however the images are ordered."""
    weights = torch.randint(1_000_000, (64,), generator=torch.Generator().manual_seed(0))
    return ((images.flatten(1) * 16).long() @ weights).sort()[0].tolist()


def test_all_digits():
    images, labels = digits()
    assert images.shape == (1797, 1, 8, 8) and images.dtype == torch.float32
    assert images.min() == 0 and images.max() == 1
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_writers():
    starts = writer_starts()
    assert len(starts) == 12 and starts[0] == 0
    lengths = torch.tensor([*starts, 1797]).diff()
    assert lengths.min() >= 120 and lengths.max() <= 260  # one or two people each


@pytest.mark.parametrize("new_writers", [True, False])
def test_splits_cover_everything_once(new_writers):
    parts = [digits(split, new_writers=new_writers) for split in SPLITS]
    assert [len(part.labels) for part in parts] == [1157, 258, 382]
    together = torch.cat([part.images for part in parts])
    assert _sorted_keys(together) == _sorted_keys(digits().images)


def test_new_writers_are_new():
    everything = digits()
    starts = writer_starts()
    for split, first in (("validation", starts[-4]), ("test", starts[-2])):
        part = digits(split)
        assert torch.equal(part.images, everything.images[first : first + len(part.labels)])
        assert part.labels[:30].tolist() == [*range(10)] * 3  # a person begins there


def test_shuffled_split_is_the_same_every_time():
    first, second = (digits("test", new_writers=False) for _ in range(2))
    assert torch.equal(first.labels, second.labels)
    assert first.labels[:30].tolist() != [*range(10)] * 3


def test_unknown_split():
    with pytest.raises(ValueError, match="split='dev' must be one of 'train', 'validation'"):
        digits("dev")


def test_photographs():
    found = photographs()
    assert list(found) == ["china", "flower"]
    for image in found.values():
        assert image.shape == (3, 427, 640) and image.dtype == torch.float32
        assert 0 <= image.min() and 0.9 < image.max() <= 1
