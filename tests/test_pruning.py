"""Pruning: a model without heads says what one with silenced heads says."""

import pytest
import torch
from torch.nn import functional as F

from zoo_lessons.layers.attention import ablate_heads
from zoo_lessons.models import BertConfig, BertForSequenceClassification, BertModel
from zoo_lessons.parity import randomise
from zoo_lessons.pruning import head_importance, prune_heads

CONFIG = BertConfig(
    vocab_size=50, d_model=24, num_layers=3, num_heads=4, d_ff=40, dropout=0.0, num_labels=3
)
GONE = {"bert.layers.0.attention": [1], "bert.layers.2.attention": [3, 0, 2]}


def model():
    return randomise(BertForSequenceClassification(CONFIG).double(), scale=0.4).eval()


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(50, (7, 9), generator=generator)
    return ids, torch.randint(3, (7,), generator=generator)


def loss(found, seed=0):
    ids, labels = batch(seed)
    return lambda: F.cross_entropy(found(ids).logits, labels, reduction="none")


def test_a_pruned_model_is_smaller_and_says_what_silenced_heads_say():
    full, (ids, _) = model(), batch()
    pruned = prune_heads(full, GONE)
    with torch.no_grad(), ablate_heads(full, GONE):
        torch.testing.assert_close(pruned(ids).logits, full(ids).logits)
    each = 4 * 24 * 6 + 3 * 6  # a head's rows in q, k, v with biases, its columns in W^O
    count = sum(p.numel() for p in full.parameters())
    assert sum(p.numel() for p in pruned.parameters()) == count - 4 * each
    assert full.bert.layers[0].attention.num_heads == 4  # the original is untouched


def test_importance_is_the_mean_size_of_the_derivative():
    full = model()
    found = head_importance(full, [loss(full)])
    assert list(found) == [f"bert.layers.{i}.attention" for i in range(3)]
    ids, labels = batch()
    name, head, step = "bert.layers.1.attention", 2, 1e-5

    def scaled(gate, chosen):
        def hook(_module, _inputs, output):
            scale = torch.ones(4, dtype=output.dtype)
            scale[chosen] = gate
            return output * scale[:, None, None]

        handle = full.get_submodule(name).attention.register_forward_hook(hook)
        with torch.no_grad():
            value = F.cross_entropy(full(ids).logits, labels, reduction="none")
        handle.remove()
        return value

    by_difference = torch.stack(
        [((scaled(1 + step, h) - scaled(1 - step, h)) / (2 * step)).abs().mean() for h in range(4)]
    )
    expected = (by_difference / by_difference.norm()).float()
    torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)
    assert found[name][head] == pytest.approx(expected[head].item(), rel=1e-4)


def test_examples_do_not_cancel_and_batches_add_up():
    full = model()
    both = head_importance(full, [loss(full, 0), loss(full, 1)])

    def joined():
        ids, labels = (torch.cat(pair) for pair in zip(batch(0), batch(1), strict=True))
        return F.cross_entropy(full(ids).logits, labels, reduction="none")

    together = head_importance(full, [joined])
    for name, value in both.items():
        torch.testing.assert_close(value, together[name])


def test_it_leaves_no_hooks_behind():
    full = model()
    before = full(batch()[0]).logits
    head_importance(full, [loss(full)])
    assert torch.equal(before, full(batch()[0]).logits)
    assert not any(m._forward_hooks for m in full.modules())


def test_errors_say_what_is_wrong():
    full = model()
    with pytest.raises(ValueError, match="no self-attention layer 'layers.0'"):
        prune_heads(full, {"layers.0": [0]})
    with pytest.raises(ValueError, match="heads 0 to 3, got"):
        prune_heads(full, {"bert.layers.0.attention": [4]})
    with pytest.raises(ValueError, match="none of its 4 heads"):
        prune_heads(full, {"bert.layers.0.attention": [0, 1, 2, 3]})
    with pytest.raises(ValueError, match="no batch"):
        head_importance(full, [])
    with pytest.raises(ValueError, match=r"expected \(batch,\)"):
        head_importance(full, [lambda: loss(full)().mean()])
    with pytest.raises(ValueError, match="no self-attention layer of"):
        head_importance(torch.nn.Linear(2, 2), [])
    assert isinstance(full.bert, BertModel)
