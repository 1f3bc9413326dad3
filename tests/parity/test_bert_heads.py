"""Our five BERT models with heads against transformers' own. Losses are the lessons' business."""

import copy

import pytest
import torch
import transformers

from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from tests.parity.test_bert import CONFIG, inputs
from zoo_lessons import models
from zoo_lessons.models import BertConfig, BertModel
from zoo_lessons.weights import from_transformers, load_pretrained

FIELDS = {
    "BertForPreTraining": ["prediction_logits", "seq_relationship_logits"],
    "BertForMaskedLM": ["logits"],
    "BertForSequenceClassification": ["logits"],
    "BertForTokenClassification": ["logits"],
    "BertForQuestionAnswering": ["start_logits", "end_logits"],
}
POOLED = {"BertForPreTraining", "BertForSequenceClassification"}
all_heads = pytest.mark.parametrize("name", list(FIELDS))


def config(name):
    result = copy.deepcopy(CONFIG)
    result.num_labels = 2 if name == "BertForQuestionAnswering" else 5
    return result


def reference(name, dtype=torch.float64, seed=0):
    return randomise(getattr(transformers, name)(config(name)), seed).to(dtype)


def outputs(model, name, batch):
    result = model(**batch)
    return [getattr(result, field) for field in FIELDS[name]]


@all_heads
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(name, dtype, bound, padded):
    theirs = reference(name, dtype)
    ours, batch = from_transformers(theirs), inputs(padded)
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch)
    assert set(vars(a)) == set(FIELDS[name]) == set(b.keys())
    assert_same(a, b, FIELDS[name], bound, rows=batch["attention_mask"].bool())


@all_heads
def test_inputs_matter(name):
    ours, batch = from_transformers(reference(name)), inputs(padded=True)
    changed = {
        "input_ids": (batch["input_ids"] + 1) % 83,
        "token_type_ids": (batch["token_type_ids"] + 1) % 3,
        "attention_mask": torch.ones_like(batch["attention_mask"]),
    }
    with torch.no_grad():
        for field in FIELDS[name]:
            assert_inputs_matter(lambda f=field, **x: getattr(ours(**x), f), batch, changed)


@all_heads
def test_same_gradient(name):
    theirs = reference(name)
    ours, batch = from_transformers(theirs), inputs(padded=True)
    real = batch["attention_mask"].bool()
    for model in (ours, theirs):
        logits = outputs(model, name, batch)
        kept = [x[real] if x.shape[:2] == real.shape else x for x in logits]
        sum(x.square().sum() for x in kept).backward()
    expected = {key: p.grad for key, p in theirs.named_parameters()}
    # renaming the gradients as if they were weights compares every one of them
    graded = copy.deepcopy(theirs)
    with torch.no_grad():
        for key, parameter in graded.named_parameters():
            parameter.copy_(expected[key])
    for (key, parameter), want in zip(
        ours.named_parameters(), from_transformers(graded).parameters(), strict=True
    ):
        assert relative_difference(parameter.grad, want) <= 1e-9, key


@all_heads
@pytest.mark.parametrize("seed", [1, 2])
def test_saved_file(name, seed, tmp_path):
    theirs = reference(name, torch.float32, seed)
    theirs.save_pretrained(tmp_path)
    ours, batch = load_pretrained(tmp_path), inputs(padded=True)
    assert type(ours) is getattr(models, name) and not ours.training
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch)
    assert_same(a, b, FIELDS[name], 1e-5, rows=batch["attention_mask"].bool())


@all_heads
def test_only_heads_that_pool_have_a_pooler(name):
    ours = from_transformers(reference(name))
    assert (ours.bert.pooler is not None) == (name in POOLED)
    ids = torch.tensor([[3, 4]])
    assert (ours.bert(ids).pooler_output is not None) == (name in POOLED)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForPreTraining"])
def test_decoder_is_the_word_embedding(name):
    ours = from_transformers(reference(name))
    assert ours.predictions.decoder.weight is ours.bert.embeddings.word.weight
    theirs = sum(p.numel() for p in reference(name).parameters())
    assert sum(p.numel() for p in ours.parameters()) == theirs


def test_the_head_takes_masked_tokens_alone():
    ours, batch = from_transformers(reference("BertForMaskedLM")), inputs(padded=True)
    chosen = torch.zeros(3, 11, dtype=torch.bool)
    chosen[0, 3] = chosen[1, 8] = True
    with torch.no_grad():
        hidden = ours.bert(**batch).last_hidden_state
        few, all_logits = ours.predictions(hidden[chosen]), ours(**batch).logits
    assert few.shape == (2, 83)
    torch.testing.assert_close(few, all_logits[chosen])


@pytest.mark.parametrize(
    ("model", "count"),
    [
        # The paper says 110 M (section 3). The pre-training heads make the difference between
        # 109.5 M and 110.1 M.
        (BertModel, 109_482_240),
        (models.BertForPreTraining, 110_106_428),
    ],
)
def test_published_size_of_bert_base(model, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in model(BertConfig.base()).parameters()) == count
        theirs = getattr(transformers, model.__name__)(transformers.BertConfig())
    assert sum(p.numel() for p in theirs.parameters()) == count


# --- a fresh head on a pretrained encoder --------------------------------------------------------


@all_heads
def test_from_encoder(name):
    theirs = randomise(transformers.BertModel(copy.deepcopy(CONFIG)))
    encoder = from_transformers(theirs)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    labels = 2 if name == "BertForQuestionAnswering" else 7
    made = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        made.append(getattr(models, name).from_encoder(encoder, num_labels=labels))
    model, same, other = made
    assert not model.training and model.config.num_labels == labels
    batch = inputs(padded=True)
    with torch.no_grad():
        a, b = model.bert(**batch), encoder(**batch)
        assert torch.equal(a.last_hidden_state, b.last_hidden_state)
        if name in POOLED:
            assert torch.equal(a.pooler_output, b.pooler_output)
        first = outputs(model, name, batch)
        assert all(map(torch.equal, first, outputs(same, name, batch)))
        assert not any(map(torch.equal, first, outputs(other, name, batch)))
    if "Classification" in name:
        assert first[0].shape[-1] == labels
    with torch.no_grad():  # the encoder was copied, not borrowed
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_from_encoder_keeps_dtype_and_mode():
    encoder = BertModel(BertConfig(9, 8, 1, 2, 8)).double()
    model = models.BertForTokenClassification.from_encoder(encoder)
    assert model.training and model.classifier.weight.dtype == torch.float64
    assert model.classifier.out_features == 2


def test_from_encoder_without_a_pooler_makes_a_fresh_one():
    pretrained = models.BertForMaskedLM(BertConfig(9, 8, 1, 2, 8))
    torch.manual_seed(0)
    model = models.BertForSequenceClassification.from_encoder(pretrained.bert)
    assert model.bert.pooler.weight.std() > 0.01
    assert torch.equal(model.bert.embeddings.word.weight, pretrained.bert.embeddings.word.weight)


def test_from_encoder_wants_an_encoder():
    model = models.BertForMaskedLM(BertConfig(9, 8, 1, 2, 8))
    with pytest.raises(TypeError, match="BertForMaskedLM, expected a BertModel.*model.bert"):
        models.BertForTokenClassification.from_encoder(model)
    with pytest.raises(TypeError, match="bert is a Linear, expected a BertModel$"):
        models.BertForTokenClassification.from_encoder(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="num_labels=3, expected 2: start and end"):
        models.BertForQuestionAnswering.from_encoder(model.bert, num_labels=3)
