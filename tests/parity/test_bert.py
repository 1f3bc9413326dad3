"""Our BERT against transformers.BertModel, and MiniLM's real weights against its own loader."""

import copy

import pytest
import torch
import transformers

from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from zoo_lessons.layers import record_attention
from zoo_lessons.models import BertModel
from zoo_lessons.models.bert import BertConfig
from zoo_lessons.weights import (
    from_transformers,
    load_pretrained,
    load_tokenizer,
    pretrained_folder,
)

FIELDS = ["last_hidden_state", "pooler_output"]
CONFIG = transformers.BertConfig(
    vocab_size=83,
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=80,
    max_position_embeddings=31,
    type_vocab_size=3,
    hidden_act="gelu_new",
    layer_norm_eps=1e-4,
    hidden_dropout_prob=0.3,
    attention_probs_dropout_prob=0.2,
    pad_token_id=2,
)


def reference(dtype):
    return randomise(transformers.BertModel(copy.deepcopy(CONFIG))).to(dtype)


def inputs(padded):
    generator = torch.Generator().manual_seed(1)
    batch = {
        "input_ids": torch.randint(0, 83, (3, 11), generator=generator),
        "token_type_ids": torch.randint(0, 3, (3, 11), generator=generator),
        "attention_mask": torch.ones(3, 11, dtype=torch.long),
    }
    if padded:
        batch["attention_mask"][0, 7:] = 0
        batch["attention_mask"][2, 3:] = 0
    return batch


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound, padded):
    theirs = reference(dtype)
    ours = from_transformers(theirs)
    batch = inputs(padded)
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch)
    assert_same(a, b, FIELDS, bound, rows=batch["attention_mask"].bool())


def test_inputs_matter():
    ours, batch = from_transformers(reference(torch.float64)), inputs(padded=True)
    changed = {
        "input_ids": (batch["input_ids"] + 1) % 83,
        "token_type_ids": (batch["token_type_ids"] + 1) % 3,
        "attention_mask": torch.ones_like(batch["attention_mask"]),
    }
    with torch.no_grad():
        assert_inputs_matter(lambda **x: ours(**x).pooler_output, batch, changed)


def test_same_gradient():
    theirs = reference(torch.float64)
    ours = from_transformers(theirs)
    batch = inputs(padded=True)
    for model in (ours, theirs):
        model(**batch).pooler_output.square().sum().backward()
    ours_qkv = ours.layers[1].attention.qkv.weight.grad
    attention = theirs.encoder.layer[1].attention.self
    theirs_qkv = torch.cat([getattr(attention, n).weight.grad for n in ("query", "key", "value")])
    assert relative_difference(ours_qkv, theirs_qkv) <= 1e-9
    ours_word = ours.embeddings.word.weight.grad
    assert relative_difference(ours_word, theirs.embeddings.word_embeddings.weight.grad) <= 1e-9


def test_same_attention_maps():
    theirs = transformers.BertModel._from_config(
        copy.deepcopy(CONFIG), attn_implementation="eager", dtype=torch.float64
    )
    randomise(theirs)
    ours, batch = from_transformers(theirs), inputs(padded=True)
    with torch.no_grad(), record_attention(ours) as maps:
        ours(**batch)
    with torch.no_grad():
        expected = torch.stack(theirs(**batch, output_attentions=True).attentions)
    assert relative_difference(maps.stack(), expected) <= 1e-9


@pytest.mark.parametrize("option", ["is_decoder", "add_cross_attention"])
def test_decoder_is_refused(option):
    config = copy.deepcopy(CONFIG)
    config.is_decoder = True
    setattr(config, option, True)
    with pytest.raises(ValueError, match="expected an encoder"):
        from_transformers(transformers.BertModel(config))


@pytest.mark.parametrize(
    ("config", "millions"),
    [(BertConfig.base(), 109.5), (BertConfig.large(), 335.1), (BertConfig.minilm(), 22.7)],
)
def test_published_sizes(config, millions):
    # Without the heads of pre-training: those make 110.1 M of BERT-Base's 109.5 M.
    with torch.device("meta"):
        count = sum(p.numel() for p in BertModel(config).parameters())
    assert round(count / 1e6, 1) == millions


def test_minilm_real_weights():
    theirs = transformers.BertModel.from_pretrained(
        pretrained_folder("minilm"), local_files_only=True
    )
    ours, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(["The cat sat on the mat", "Attention!"])
    batch = {
        "input_ids": torch.tensor([e.ids for e in encoded]),
        "attention_mask": torch.tensor([e.attention_mask for e in encoded]),
    }
    with torch.no_grad():
        a, b = ours(**batch), theirs.eval()(**batch)
    assert encoded[0].tokens[:4] == ["[CLS]", "the", "cat", "sat"]
    assert_same(a, b, FIELDS, 1e-5, rows=batch["attention_mask"].bool())
