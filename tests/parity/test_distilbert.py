"""Our DistilBERT against transformers', and students against their teachers."""

import copy

import pytest
import torch
import transformers

from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from zoo_lessons.layers import record_attention
from zoo_lessons.models import (
    BertConfig,
    BertForPreTraining,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    distil_from,
)
from zoo_lessons.weights import from_transformers, load_pretrained, load_renamed

CONFIG = transformers.DistilBertConfig(
    vocab_size=83,
    max_position_embeddings=31,
    n_layers=3,
    n_heads=4,
    dim=48,
    hidden_dim=80,
    dropout=0.2,
    attention_dropout=0.15,
    activation="relu",
    seq_classif_dropout=0.3,
    pad_token_id=2,
    num_labels=5,
)
FIELDS = {
    transformers.DistilBertModel: ["last_hidden_state"],
    transformers.DistilBertForSequenceClassification: ["logits"],
}
both = pytest.mark.parametrize("kind", FIELDS)


def reference(kind, dtype=torch.float64, **options):
    model = kind._from_config(copy.deepcopy(CONFIG), dtype=dtype, **options)
    return randomise(model)


def inputs(padded=True):
    ids = torch.randint(0, 83, (3, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 11, dtype=torch.long)
    if padded:
        mask[0, 7:] = 0
        mask[2, 3:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@both
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(kind, dtype, bound, padded):
    theirs, batch = reference(kind, dtype), inputs(padded)
    with torch.no_grad():
        a, b = from_transformers(theirs)(**batch), theirs(**batch)
    assert_same(a, b, FIELDS[kind], bound, rows=batch["attention_mask"].bool())


@both
def test_inputs_matter(kind):
    ours, batch = from_transformers(reference(kind)), inputs()
    changed = {
        "input_ids": (batch["input_ids"] + 1) % 83,
        "attention_mask": torch.ones_like(batch["attention_mask"]),
    }
    with torch.no_grad():
        assert_inputs_matter(lambda **x: getattr(ours(**x), FIELDS[kind][0]), batch, changed)


def test_same_gradient():
    theirs, batch = reference(transformers.DistilBertForSequenceClassification), inputs()
    ours = from_transformers(theirs)
    for model in (ours, theirs):
        model(**batch).logits.square().sum().backward()
    block, reference_block = ours.distilbert.layers[1], theirs.distilbert.transformer.layer[1]
    joined = [getattr(reference_block.attention, f"{x}_lin").weight.grad for x in "qkv"]
    pairs = [
        (block.attention.qkv.weight, torch.cat(joined)),
        (block.feed_forward.down.weight, reference_block.ffn.lin2.weight.grad),
        (ours.pre_classifier.weight, theirs.pre_classifier.weight.grad),
        (
            ours.distilbert.embeddings.positions.weight,
            theirs.distilbert.embeddings.position_embeddings.weight.grad,
        ),
    ]
    for parameter, expected in pairs:
        assert relative_difference(parameter.grad, expected) <= 1e-9


def test_same_attention_maps():
    theirs = reference(transformers.DistilBertModel, attn_implementation="eager")
    ours, batch = from_transformers(theirs), inputs()
    with torch.no_grad(), record_attention(ours) as maps:
        ours(**batch)
    with torch.no_grad():
        expected = torch.stack(theirs(**batch, output_attentions=True).attentions)
    assert relative_difference(maps.stack(), expected) <= 1e-9


@both
def test_folder_saved_by_transformers(kind, tmp_path):
    theirs, batch = reference(kind, torch.float32), inputs()
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        a, b = load_pretrained(tmp_path)(**batch), theirs(**batch)
    assert_same(a, b, FIELDS[kind], 1e-5, rows=batch["attention_mask"].bool())


def test_published_file_of_the_encoder():
    """The hub's "distilbert-base-uncased" has a prefix in its names, and a masked LM's head."""
    theirs = randomise(transformers.DistilBertForMaskedLM(copy.deepcopy(CONFIG)))
    ours = load_renamed(DistilBertModel(DistilBertConfig.from_hf(CONFIG)), theirs.state_dict())
    with torch.no_grad():
        a, b = ours.eval()(**inputs()), theirs.distilbert(**inputs())
    assert_same(a, b, ["last_hidden_state"], 1e-5, rows=inputs()["attention_mask"].bool())


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_published_size_and_share():
    with torch.device("meta"):
        ours = DistilBertModel(DistilBertConfig.base())
        assert count(ours) == 66_362_880
        theirs = transformers.DistilBertConfig()
        assert DistilBertConfig.from_hf(theirs) == DistilBertConfig.base()
        assert transformers.DistilBertModel(theirs).num_parameters() == count(ours)
        # "40 % fewer" (section 1): of BERT-Base's 110 million.
        assert 1 - count(ours) / count(BertModel(BertConfig.base())) == pytest.approx(0.4, abs=0.01)
        pre_training = count(BertForPreTraining(BertConfig.base()))
        assert 1 - count(ours) / pre_training == pytest.approx(0.4, abs=0.01)


def teacher():
    config = BertConfig(
        vocab_size=83, d_model=48, num_layers=5, num_heads=4, d_ff=80, max_length=31, eps=1e-4
    )
    return randomise(BertModel(config).double())


def test_a_student_with_all_layers_is_its_teacher():
    bert, batch = teacher(), inputs()
    with torch.no_grad():
        student = distil_from(bert, range(5))
        assert_same(
            student(**batch),
            bert(**batch),
            ["last_hidden_state"],
            1e-9,
            rows=batch["attention_mask"].bool(),
        )


def test_a_student_has_every_second_layer():
    bert = teacher()
    student = distil_from(bert)
    assert student.config.num_layers == 3 and not student.training
    for own, i in zip(student.layers, (0, 2, 4), strict=True):
        for name, weight in own.state_dict().items():
            assert torch.equal(weight, bert.layers[i].state_dict()[name])
    before = bert.layers[0].attention.out.weight.clone()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert torch.equal(bert.layers[0].attention.out.weight, before)  # copies
    assert bert.embeddings.word.weight.any()


def test_a_head_on_a_student():
    student = distil_from(teacher().train())
    model = DistilBertForSequenceClassification.from_encoder(student, num_labels=4)
    assert model.training and model(**inputs()).logits.shape == (3, 4)
    assert torch.equal(model.distilbert.embeddings.word.weight, student.embeddings.word.weight)
    assert model.classifier.weight.dtype == torch.float64


def test_errors():
    with pytest.raises(TypeError, match="teacher is a DistilBertModel, expected a BertModel"):
        distil_from(distil_from(teacher()))
    for layers in ([], [0, 5], [2, 1], [1, 1]):
        with pytest.raises(ValueError, match="expected some of 0 to 4 in rising order"):
            distil_from(teacher(), layers)
    with pytest.raises(TypeError, match="encoder is a BertModel, expected a DistilBertModel"):
        DistilBertForSequenceClassification.from_encoder(teacher())
