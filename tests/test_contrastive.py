import math

import pytest
import torch
from torch.nn import functional as F

from zoo_lessons.contrastive import contrastive_loss, matching_loss, same_captions


def embeddings(batch=5, width=7, seed=0):
    draw = torch.Generator().manual_seed(seed)
    both = torch.randn(2, batch, width, generator=draw, dtype=torch.float64)
    return F.normalize(both, dim=-1)


def loss_by_hand(images, texts, temperature, same):
    """Straight from the definition, one pair at a time."""
    batch = len(images)
    cosine = [
        [float(images[i] @ texts[j]) / temperature for j in range(batch)] for i in range(batch)
    ]
    total = 0.0
    for i in range(batch):
        row = math.log(sum(math.exp(cosine[i][j]) for j in range(batch)))
        right = [j for j in range(batch) if same[i][j]]
        total += sum(row - cosine[i][j] for j in right) / len(right)
        column = math.log(sum(math.exp(cosine[j][i]) for j in range(batch)))
        right = [j for j in range(batch) if same[j][i]]
        total += sum(column - cosine[j][i] for j in right) / len(right)
    return total / (2 * batch)


@pytest.mark.parametrize("captions", [None, "abcde", "abcab", "aaaaa", "abbbb"])
@pytest.mark.parametrize("temperature", [0.07, 1.0, 3.0])
def test_equal_to_a_loop(captions, temperature):
    images, texts = embeddings()
    same = None if captions is None else same_captions(captions)
    pairs = torch.eye(5, dtype=torch.bool) if same is None else same
    found = contrastive_loss(images, texts, math.log(1 / temperature), same)
    assert math.isclose(found.item(), loss_by_hand(images, texts, temperature, pairs), rel_tol=1e-9)


def test_distinct_captions_are_the_plain_loss():
    images, texts = embeddings()
    plain = contrastive_loss(images, texts, 2.0)
    torch.testing.assert_close(contrastive_loss(images, texts, 2.0, same_captions("abcde")), plain)
    assert abs(contrastive_loss(images, texts, 2.0, same_captions("abcda")) - plain) > 1e-3


def test_a_batch_of_equal_captions_asks_for_nothing():
    images, texts = embeddings()
    texts[:] = texts[0]
    images[:] = images[0]
    images.requires_grad_()
    loss = contrastive_loss(images, texts, 2.0, same_captions("aaaaa"))
    assert math.isclose(loss.item(), math.log(5))  # its entropy, which nothing can lower
    loss.backward()
    assert images.grad.abs().max() < 1e-12


def test_matches_of_one_direction_only():
    """A text that fits several images, not the other way round: columns and rows are separate."""
    images, texts = embeddings(3)
    same = torch.tensor([[True, True, False], [False, True, False], [False, True, True]])
    found = contrastive_loss(images, texts, 0.0, same)
    assert math.isclose(found.item(), loss_by_hand(images, texts, 1.0, same), rel_tol=1e-9)


def test_the_scale_learns():
    images, texts = embeddings()
    logit_scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    contrastive_loss(images, texts, logit_scale).backward()
    step = 1e-6
    with torch.no_grad():
        higher = contrastive_loss(images, texts, logit_scale + step)
        lower = contrastive_loss(images, texts, logit_scale - step)
    assert math.isclose(logit_scale.grad.item(), (higher - lower).item() / (2 * step), rel_tol=1e-5)


def test_same_captions():
    expected = [[True, False, True], [False, True, False], [True, False, True]]
    assert same_captions(["a dog", "a cat", "a dog"]).tolist() == expected


def test_errors_name_the_mistake():
    images, texts = embeddings()
    with pytest.raises(ValueError, match=r"image_embeds has rows of length 2 to 2, expected 1"):
        contrastive_loss(2 * images, texts, 0.0)
    with pytest.raises(ValueError, match="text_embeds has rows of length"):
        contrastive_loss(images, texts[:] * 0.5, 0.0)
    with pytest.raises(ValueError, match=r"\(5, 7\) and text_embeds \(4, 7\)"):
        contrastive_loss(images, texts[:4], 0.0)
    with pytest.raises(TypeError, match="same has dtype torch.int64"):
        contrastive_loss(images, texts, 0.0, same_captions("abcab").long())
    with pytest.raises(ValueError, match=r"same has shape \(3, 3\), expected \(5, 5\)"):
        contrastive_loss(images, texts, 0.0, same_captions("abc"))
    with pytest.raises(ValueError, match="its diagonal"):
        contrastive_loss(images, texts, 0.0, torch.zeros(5, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected as many images as texts"):
        matching_loss(torch.zeros(2, 3))
