"""The convolutional references: sizes, gradients, and a committee that averages probabilities."""

from __future__ import annotations

import pytest
import torch

from zoo_lessons.models.cnn import CNN, CNNConfig, Committee, CommitteeConfig


def test_sizes_and_shape():
    images = torch.rand(5, 1, 8, 8)
    for config, parameters in ((CNNConfig(), 58_314), (CNNConfig.small(), 15_338)):
        model = CNN(config)
        assert sum(p.numel() for p in model.parameters()) == parameters
        assert model(images).logits.shape == (5, 10)
    assert CNN(CNNConfig((2, 3, 4), image_size=12, num_channels=3, num_labels=7))(
        torch.rand(2, 3, 12, 12)
    ).logits.shape == (2, 7)


def test_every_weight_learns():
    torch.manual_seed(0)
    model = CNN(CNNConfig((4, 5, 6)))
    model(torch.rand(16, 1, 8, 8)).logits.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_committee_averages_probabilities():
    torch.manual_seed(0)
    committee = Committee(CommitteeConfig((4, 5, 6), members=3)).eval()
    images = 5 * torch.randn(6, 1, 8, 8)
    together = committee(images).logits.softmax(-1)
    each = torch.stack([m(images).logits.softmax(-1) for m in committee.members])
    torch.testing.assert_close(together, each.mean(0))
    assert not torch.allclose(each[0], each[1])


def test_refuses_other_sizes():
    with pytest.raises(ValueError, match="three numbers"):
        CNNConfig((4, 5))
    with pytest.raises(ValueError, match="divisible by 4"):
        CNNConfig(image_size=10)
