"""BLIP's losses against plain loops; hard negatives by their frequencies; the momentum model."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo_lessons import contrastive
from zoo_lessons.image_text_losses import (
    MomentumModel,
    caption_labels,
    caption_loss,
    distilled_contrastive_loss,
    hard_negatives,
    image_text_matching_loss,
    pretraining_losses,
    soft_targets,
)
from zoo_lessons.models import BlipConfig, BlipForPreTraining, ViTConfig


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_caption_loss_as_a_loop(smoothing):
    logits = random(3, 5, 7)
    labels = torch.tensor([[1, 2, 3, 4, 5], [1, 6, 0, -100, -100], [1, 3, -100, -100, -100]])
    sums, count = [], 0
    for row, targets in zip(logits, labels, strict=True):
        total = 0.0
        for t in range(4):
            target = targets[t + 1].item()  # position t predicts the token after it
            if target == -100:
                continue
            log_p = row[t].log_softmax(dim=-1)
            total -= (1 - smoothing) * log_p[target] + smoothing * log_p.mean()
            count += 1
        sums.append(total)
    expected = torch.stack(sums)
    found = caption_loss(logits, labels, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(found, expected)
    mean = caption_loss(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(mean, expected.sum() / count)  # over tokens, not over texts


def test_caption_labels_leave_out_padding():
    ids, mask = torch.tensor([[4, 5, 0], [4, 0, 6]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert caption_labels(ids, mask).tolist() == [[4, 5, -100], [4, 0, 6]]


def test_caption_loss_errors():
    with pytest.raises(ValueError, match=r"logits have shape \(2, 3, 4\) and labels \(2, 4\)"):
        caption_loss(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="reduction='sum', expected"):
        caption_loss(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), reduction="sum")


def test_hard_negatives_are_drawn_as_often_as_they_are_similar():
    logits = random(4, 4, seed=1)
    same = torch.eye(4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.zeros(4, 4), torch.zeros(4, 4)
    for _ in range(4000):
        drawn = hard_negatives(logits, same, generator=generator)
        for i in range(4):
            images[i, drawn.images[i]] += 1 / 4000
            texts[i, drawn.texts[i]] += 1 / 4000
    for i in range(4):  # text i draws from its column, image i from its row
        for found, scores, hidden in (
            (images[i], logits[:, i], same[:, i]),
            (texts[i], logits[i], same[i]),
        ):
            expected = scores.exp().masked_fill(hidden, 0.0)
            expected = (expected / expected.sum()).float()
            assert not found[hidden].any()
            torch.testing.assert_close(found, expected, atol=0.03, rtol=0)


def test_hard_negatives_can_be_repeated_and_survive_large_logits():
    logits = 1e4 * torch.eye(5) + random(5, 5).float()
    drawn = [hard_negatives(logits, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(drawn[0].images, drawn[1].images)
    assert torch.equal(drawn[0].texts, drawn[1].texts)
    assert (drawn[0].images != torch.arange(5)).all() and (drawn[0].texts != torch.arange(5)).all()


def test_hard_negative_errors():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), expected as many images as texts"):
        hard_negatives(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no negative is left in a batch of 2"):
        hard_negatives(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool))


def test_matching_loss_as_a_loop():
    positive, negative = random(3, 2), random(6, 2, seed=1)
    expected = [-row.log_softmax(0)[1] for row in positive]
    expected += [-row.log_softmax(0)[0] for row in negative]
    found = image_text_matching_loss(positive, negative)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_soft_targets():
    targets, teacher = torch.eye(3)[:2], torch.tensor([[0.0, math.log(3.0), 0.0]] * 2)
    found = soft_targets(targets, teacher, 0.5)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]))
    assert torch.equal(soft_targets(targets, teacher, 0.0), targets)
    torch.testing.assert_close(soft_targets(targets, teacher, 1.0), teacher.softmax(dim=1))
    with pytest.raises(ValueError, match="alpha=1.5, expected a share"):
        soft_targets(targets, teacher, 1.5)
    with pytest.raises(ValueError, match="expected the same"):
        soft_targets(targets, teacher[:1], 0.5)


@pytest.mark.parametrize("with_same", [False, True])
def test_distilled_loss_as_a_loop(with_same):
    logits, teacher = random(4, 4), random(4, 4, seed=1)
    same = torch.eye(4, dtype=torch.bool)
    if with_same:
        same[1, 3] = same[3, 1] = True
    total = 0.0
    for scores, slow, hits in ((logits, teacher, same), (logits.T, teacher.T, same.T)):
        for i in range(4):
            target = 0.6 * hits[i] / hits[i].sum() + 0.4 * slow[i].softmax(0)
            total -= (target * scores[i].log_softmax(0)).sum() / 8
    found = distilled_contrastive_loss(logits, teacher, 0.4, same if with_same else None)
    torch.testing.assert_close(found, total)
    hard = distilled_contrastive_loss(logits, teacher, 0.0, same)
    torch.testing.assert_close(hard, contrastive.matching_loss(logits, same))


def test_momentum_model_is_a_moving_average():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    slow = MomentumModel(model, momentum=0.9)
    expected = model[0].weight.detach().clone()
    for _ in range(5):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(3, 2))
        model(torch.randn(4, 2))  # moves the running statistics
        slow.update(model)
        expected = 0.9 * expected + 0.1 * model[0].weight.detach()
        torch.testing.assert_close(slow.model[0].weight, expected)
        assert torch.equal(slow.model[1].running_mean, model[1].running_mean)
    assert not slow.model.training and not any(p.requires_grad for p in slow.model.parameters())
    with pytest.raises(ValueError, match="not those of the momentum copy"):
        slow.update(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="momentum=1.1"):
        MomentumModel(model, momentum=1.1)


def tiny(**changes):
    vision = ViTConfig(
        image_size=12, patch_size=6, d_model=16, num_layers=1, num_heads=2, d_ff=16, num_labels=0
    )
    sizes = dict(
        vision=vision, vocab_size=13, d_model=8, num_layers=2, num_heads=2, d_ff=16, max_length=9,
        embed_dim=4, pad_token_id=0, bos_token_id=1, sep_token_id=2, cls_token_id=11,
        enc_token_id=12,
    )  # fmt: skip
    torch.manual_seed(0)
    return BlipForPreTraining(BlipConfig(**{**sizes, **changes})).double().eval()


def batch():
    ids = torch.tensor([[1, 4, 5, 6, 2], [1, 7, 8, 2, 0], [1, 9, 4, 5, 2], [1, 3, 2, 0, 0]])
    return random(4, 3, 12, 12), ids, (ids != 0).long()


def test_pretraining_losses_are_the_parts():
    model, (pixels, ids, mask) = tiny(), batch()
    same = torch.eye(4, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    found = pretraining_losses(
        model, pixels, ids, mask, same, generator=torch.Generator().manual_seed(5)
    )
    image = model.encode_image(pixels)
    a, b = model.image_features(image), model.text_features(ids, mask)
    torch.testing.assert_close(
        found.itc, contrastive.contrastive_loss(a, b, model.logit_scale, same)
    )
    chosen = hard_negatives(
        model.logit_scale.exp() * a @ b.T, same, generator=torch.Generator().manual_seed(5)
    )
    losses = []
    for i in range(4):
        for text, picture, label in (
            (i, i, 1), (chosen.texts[i], i, 0), (i, chosen.images[i], 0)
        ):  # fmt: skip
            logits = model.match(ids[text][None], mask[text][None], image[picture][None])
            losses.append(F.cross_entropy(logits, torch.tensor([label])))
    torch.testing.assert_close(found.itm, torch.stack(losses).mean())
    logits = model.caption_logits(ids, mask, image)
    expected = caption_loss(logits, caption_labels(ids, mask), label_smoothing=0.1)
    torch.testing.assert_close(found.lm, expected)
    torch.testing.assert_close(found.total, found.itc + found.itm + found.lm)


def test_losses_that_are_off_are_zero_and_the_others_the_same():
    model, texts = tiny(), batch()
    draw = {"generator": torch.Generator().manual_seed(5)}
    both = pretraining_losses(model, *texts, losses=("itm", "lm"), **draw)
    draw = {"generator": torch.Generator().manual_seed(5)}
    full = pretraining_losses(model, *texts, **draw)
    assert both.itc == 0 and both.itm == full.itm and both.lm == full.lm
    written = pretraining_losses(model, *texts, losses=("lm",))
    assert written.itm == 0 and written.total == full.lm
    with pytest.raises(ValueError, match="expected one or more"):
        pretraining_losses(model, *texts, losses=("itc", "mlm"))
    with pytest.raises(ValueError, match="expected one or more"):
        pretraining_losses(model, *texts, losses=())


def test_momentum_teaches_itc_and_gets_no_gradient():
    model, (pixels, ids, mask) = tiny(), batch()
    slow = MomentumModel(model)
    plain = pretraining_losses(model, pixels, ids, mask)
    soft = pretraining_losses(model, pixels, ids, mask, momentum=slow, alpha=0.4)
    none = pretraining_losses(model, pixels, ids, mask, momentum=slow, alpha=0.0)
    torch.testing.assert_close(none.itc, plain.itc)
    assert soft.itc != plain.itc and soft.lm == plain.lm
    soft.total.backward()
    assert all(p.grad is None for p in slow.model.parameters())
    assert all(p.grad is not None for p in model.parameters())
