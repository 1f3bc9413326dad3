"""Early exit: whole batches against one example at a time, and the rules by hand."""

import pytest
import torch

from zoo_lessons.early_exit import EarlyExit, early_exit_loss, exits
from zoo_lessons.models import (
    GPT,
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPTConfig,
)
from zoo_lessons.parity import randomise

SIZES = {"vocab_size": 83, "d_model": 24, "num_layers": 6, "num_heads": 3, "d_ff": 40}
ENCODERS = {
    "BERT": lambda: BertModel(BertConfig(**SIZES)),
    "DistilBERT": lambda: DistilBertModel(DistilBertConfig(**SIZES)),
    "ALBERT": lambda: AlbertModel(AlbertConfig(**SIZES, d_embedding=12)),
}
every_encoder = pytest.mark.parametrize("build", ENCODERS.values(), ids=ENCODERS)
RULES = [{"patience": 1}, {"patience": 2}, {"patience": 5}, {"confidence": 0.7}, {"confidence": 1}]
every_rule = pytest.mark.parametrize("rule", RULES, ids=str)


def model(build=ENCODERS["BERT"]):
    early = randomise(EarlyExit(build(), num_labels=3).double(), scale=0.4)
    with torch.no_grad():  # classifiers that agree more often than chance
        for classifier in early.classifiers[1:]:
            classifier.weight.lerp_(early.classifiers[0].weight, 0.7)
            classifier.bias.zero_()
    return early


def inputs(batch=40):
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(batch, 9, dtype=torch.long)
    mask[::3, 5:] = 0
    return {
        "input_ids": torch.randint(0, 83, (batch, 9), generator=generator),
        "attention_mask": mask,
    }


def one_by_one(layer_logits, patience=None, confidence=None):
    """The rules in words, for one example: (layers, num_labels) -> layers used."""
    counter, before = 0, None
    for depth, logits in enumerate(layer_logits, start=1):
        prediction = int(logits.argmax())
        counter = counter + 1 if prediction == before else 0
        before = prediction
        if patience is not None and counter == patience:
            return depth
        if confidence is not None and logits.softmax(dim=0).max() >= confidence:
            return depth
    return len(layer_logits)


@every_encoder
@every_rule
def test_batches_equal_single_examples(build, rule):
    early, batch = model(build), inputs()
    with torch.no_grad():
        everything = early(**batch)
    together, read_off = early.predict(**batch, **rule), exits(everything.layer_logits, **rule)
    for i in range(40):
        own = everything.layer_logits[:, i]
        depth = one_by_one(own, **rule)
        for found in (together, read_off):
            assert found.layers[i] == depth
            torch.testing.assert_close(found.logits[i], own[depth - 1])
        alone = early.predict(**{name: x[i : i + 1] for name, x in batch.items()}, **rule)
        assert alone.layers.tolist() == [depth]


def test_examples_leave_at_different_layers():
    """Otherwise the test above would say little."""
    for rule in ({"patience": 1}, {"patience": 2}, {"confidence": 0.7}):
        assert len(model().predict(**inputs(), **rule).layers.unique()) >= 3


def test_those_who_left_are_not_computed():
    early, batch, rows = model(), inputs(), []
    for layer in early.encoder.layers:
        layer.register_forward_pre_hook(lambda _module, args: rows.append(len(args[0])))
    layers = early.predict(**batch, patience=1).layers
    assert rows == [int((layers >= depth).sum()) for depth in range(1, len(rows) + 1)]
    assert sum(rows) == layers.sum() < 6 * 40


def test_no_layer_is_computed_when_all_have_left():
    early, calls = model(), []
    for layer in early.encoder.layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    assert early.predict(**inputs(), confidence=0.1).layers.eq(1).all()
    assert len(calls) == 1


def test_patience_by_hand():
    """Predictions 0 1 1 1 0 0: one confirmation at layer 3, two at layer 4, three never."""
    layer_logits = torch.eye(2)[[0, 1, 1, 1, 0, 0]][:, None]
    assert exits(layer_logits, patience=1).layers.tolist() == [3]
    assert exits(layer_logits, patience=2).layers.tolist() == [4]
    assert exits(layer_logits, patience=3).layers.tolist() == [6]
    assert exits(layer_logits, patience=3).logits.argmax() == 0


def test_more_patience_never_uses_fewer_layers():
    with torch.no_grad():
        layer_logits = model()(**inputs()).layer_logits
    used = [exits(layer_logits, patience=p).layers for p in range(1, 7)]
    for fewer, more in zip(used, used[1:], strict=False):
        assert (fewer <= more).all()
    assert used[-1].eq(6).all()


def test_segments_are_passed_on():
    early, batch = model(), inputs()
    ones = torch.ones_like(batch["input_ids"])
    with torch.no_grad():
        before, after = early(**batch).logits, early(**batch, token_type_ids=ones).logits
        assert (before - after).abs().max() > 1e-3
    found = early.predict(**batch, token_type_ids=ones, patience=6)
    torch.testing.assert_close(found.logits, after)


def test_loss():
    layer_logits, labels = torch.randn(3, 5, 4), torch.tensor([0, 3, 1, 1, 2])
    a, b, c = (torch.nn.functional.cross_entropy(x, labels) for x in layer_logits)
    torch.testing.assert_close(early_exit_loss(layer_logits, labels), (a + 2 * b + 3 * c) / 6)


def test_every_classifier_learns():
    early = model().train()
    labels = torch.arange(40) % 3
    early_exit_loss(early(**inputs()).layer_logits, labels).backward()
    assert all(c.weight.grad.abs().max() > 0 for c in early.classifiers)


def test_errors():
    early = model()
    for rule in ({}, {"patience": 1, "confidence": 0.5}):
        with pytest.raises(ValueError, match="expected exactly one of them"):
            early.predict(**inputs(), **rule)
    with pytest.raises(ValueError, match="patience=0, expected at least 1"):
        exits(torch.zeros(2, 1, 2), patience=0)
    with pytest.raises(ValueError, match="confidence=1.5, expected a probability"):
        exits(torch.zeros(2, 1, 2), confidence=1.5)
    with pytest.raises(ValueError, match="input_ids holds ids from 83 to 83"):
        early.predict(torch.full((1, 3), 83), patience=1)
    gpt = GPT(GPTConfig(vocab_size=9, d_model=8, num_layers=1, num_heads=2, d_ff=8))
    with pytest.raises(TypeError, match="encoder is a GPT, expected one with embeddings"):
        EarlyExit(gpt, 2)
