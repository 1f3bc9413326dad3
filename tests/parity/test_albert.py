"""Our ALBERT against transformers', and what sharing saves."""

import copy
from dataclasses import replace

import pytest
import torch
import transformers

from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from zoo_lessons.layers import record_attention
from zoo_lessons.models import AlbertConfig, AlbertModel, BertConfig, BertModel
from zoo_lessons.weights import from_transformers, load_pretrained

CONFIG = transformers.AlbertConfig(
    vocab_size=83,
    embedding_size=20,
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=80,
    hidden_act="relu",
    hidden_dropout_prob=0.2,
    attention_probs_dropout_prob=0.15,
    max_position_embeddings=31,
    type_vocab_size=3,
    layer_norm_eps=1e-4,
    pad_token_id=4,
)
FIELDS = ["last_hidden_state", "pooler_output"]


def reference(dtype=torch.float64, **options):
    model = transformers.AlbertModel._from_config(copy.deepcopy(CONFIG), dtype=dtype, **options)
    return randomise(model)


def inputs(padded=True):
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(3, 11, dtype=torch.long)
    if padded:
        mask[0, 7:] = 0
        mask[2, 3:] = 0
    return {
        "input_ids": torch.randint(0, 83, (3, 11), generator=generator),
        "attention_mask": mask,
        "token_type_ids": torch.randint(0, 3, (3, 11), generator=generator),
    }


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound, padded):
    theirs, batch = reference(dtype), inputs(padded)
    with torch.no_grad():
        a, b = from_transformers(theirs)(**batch), theirs(**batch)
    assert_same(a, b, FIELDS, bound, rows=batch["attention_mask"].bool())


def test_inputs_matter():
    ours, batch = from_transformers(reference()), inputs()
    changed = {
        "input_ids": (batch["input_ids"] + 1) % 83,
        "attention_mask": torch.ones_like(batch["attention_mask"]),
        "token_type_ids": (batch["token_type_ids"] + 1) % 3,
    }
    with torch.no_grad():
        assert_inputs_matter(lambda **x: ours(**x).pooler_output, batch, changed)


def test_same_gradient():
    """Of the shared layer: the sum over all its uses."""
    theirs, batch = reference(), inputs()
    ours, rows = from_transformers(theirs), batch["attention_mask"].bool()
    for model in (ours, theirs):
        model(**batch).last_hidden_state[rows].square().sum().backward()
    block = ours.layers[0]
    (reference_block,) = theirs.encoder.albert_layer_groups[0].albert_layers
    names = ("query", "key", "value")
    joined = torch.cat([getattr(reference_block.attention, n).weight.grad for n in names])
    pairs = [
        (block.attention.qkv.weight, joined),
        (block.feed_forward.up.weight, reference_block.ffn.weight.grad),
        (block.residual2.norm.weight, reference_block.full_layer_layer_norm.weight.grad),
        (ours.embeddings.widen.weight, theirs.encoder.embedding_hidden_mapping_in.weight.grad),
    ]
    for parameter, expected in pairs:
        assert relative_difference(parameter.grad, expected) <= 1e-9


def test_same_attention_maps():
    """One layer, three steps: three maps."""
    theirs = reference(attn_implementation="eager")
    ours, batch = from_transformers(theirs), inputs()
    with torch.no_grad(), record_attention(ours) as maps:
        ours(**batch)
    with torch.no_grad():
        expected = torch.stack(theirs(**batch, output_attentions=True).attentions)
    assert relative_difference(maps.stack(), expected) <= 1e-9


def test_folder_saved_by_transformers(tmp_path):
    """Also with the heads that published files hold."""
    theirs = randomise(transformers.AlbertForPreTraining(copy.deepcopy(CONFIG)))
    for saved in (theirs.albert, theirs):
        saved.save_pretrained(tmp_path)
        config = transformers.AutoConfig.from_pretrained(tmp_path)
        config.architectures = ["AlbertModel"]
        config.save_pretrained(tmp_path)
        with torch.no_grad():
            a, b = load_pretrained(tmp_path)(**inputs()), theirs.albert(**inputs())
        assert_same(a, b, FIELDS, 1e-5, rows=inputs()["attention_mask"].bool())


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "size"), [("base", 11_683_584), ("large", 17_683_968)])
def test_published_sizes(name, size):
    config = getattr(AlbertConfig, name)()
    theirs = transformers.AlbertConfig(
        hidden_size=config.d_model,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.d_ff,
    )
    assert AlbertConfig.from_hf(theirs) == config
    with torch.device("meta"):
        assert count(AlbertModel(config)) == size
        assert transformers.AlbertModel(theirs).num_parameters() == size


@pytest.mark.parametrize(
    ("sharing", "millions"), [("all", 12), ("attention", 64), ("feed_forward", 38), ("none", 89)]
)
def test_what_sharing_saves(sharing, millions):
    """Table 4 of the paper, for embeddings of 128."""
    with torch.device("meta"):
        found = count(AlbertModel(replace(AlbertConfig.base(), sharing=sharing)))
    assert found / 1e6 == pytest.approx(millions, abs=0.7)


@pytest.mark.parametrize("sharing", ["attention", "feed_forward", "none"])
def test_equal_weights_give_equal_outputs(sharing):
    """With every layer a copy of the first, all kinds of sharing compute the same."""
    config = AlbertConfig.from_hf(CONFIG)
    shared = randomise(AlbertModel(config).double())
    other = AlbertModel(replace(config, sharing=sharing)).double().eval()
    other.load_state_dict(shared.state_dict())  # it holds the one layer under three names
    with torch.no_grad():
        assert_same(other(**inputs()), shared(**inputs()), FIELDS, 1e-12)
    first, second = other.layers[:2]
    assert (first.attention is second.attention) == (sharing == "attention")
    assert (first.feed_forward is second.feed_forward) == (sharing == "feed_forward")
    assert first.residual1 is not second.residual1


def test_unshared_is_bert_with_narrow_embeddings():
    config = replace(AlbertConfig.from_hf(CONFIG), sharing="none")
    bert = BertModel(
        BertConfig(
            vocab_size=83, d_model=48, num_layers=3, num_heads=4, d_ff=80, max_length=31,
            type_vocab_size=3,
        )
    )  # fmt: skip
    narrow, wide = (
        sum(p.numel() for p in m.embeddings.parameters()) for m in (AlbertModel(config), bert)
    )
    assert count(AlbertModel(config)) - narrow == count(bert) - wide


def test_errors():
    with pytest.raises(ValueError, match="sharing='some', expected one of all, attention"):
        AlbertConfig(sharing="some")
    for option in ("num_hidden_groups", "inner_group_num"):
        config = copy.deepcopy(CONFIG)
        setattr(config, option, 3)
        with pytest.raises(ValueError, match=f"{option}=3, expected 1"):
            AlbertConfig.from_hf(config)
    ours, batch = from_transformers(reference()), inputs()
    with pytest.raises(ValueError, match="token_type_ids holds ids from 3 to 3"):
        ours(batch["input_ids"], token_type_ids=torch.full((3, 11), 3))
