"""Our Longformer against transformers', windows against full attention."""

import copy
from dataclasses import replace

import pytest
import torch
import transformers
from transformers.models.longformer import modeling_longformer

from tests.parity.casts import without_float32
from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from zoo_lessons.layers import record_attention
from zoo_lessons.models import LongformerConfig, LongformerModel
from zoo_lessons.weights import from_transformers, load_pretrained

CONFIG = transformers.LongformerConfig(
    vocab_size=83,
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=80,
    attention_window=[4, 8, 4],  # of 2, or of sizes that do not divide each other, theirs fails
    max_position_embeddings=60,
    type_vocab_size=3,
    hidden_act="gelu_new",
    hidden_dropout_prob=0.2,
    attention_probs_dropout_prob=0.15,
    layer_norm_eps=1e-4,
    pad_token_id=2,
    sep_token_id=5,
)
FIELDS = ["last_hidden_state", "pooler_output"]
PADDED, GLOBAL = "padded", "global"


def reference(dtype=torch.float64):
    config = copy.deepcopy(CONFIG)
    return randomise(transformers.LongformerModel._from_config(config, dtype=dtype))


def inputs(*kinds, length=29):
    """29 tokens are no whole windows: the reference pads them, ours need not."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 83, (3, length), generator=generator)
    mask = torch.ones(3, length, dtype=torch.long)
    if PADDED in kinds:
        mask[0, 20:] = 0
        mask[2, 9:] = 0
        ids[mask == 0] = 2
    batch = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.randint(0, 3, (3, length), generator=generator),
    }
    if GLOBAL in kinds:
        chosen = torch.zeros(3, length, dtype=torch.long)
        chosen[0, [0, 4, 17]] = 1  # another number in each text,
        chosen[1, 12] = 1
        chosen[0, 25] = 1  # and one that is padding in some tests
        batch["global_attention_mask"] = chosen
    return batch


@pytest.mark.parametrize("kinds", [(), (PADDED,), (GLOBAL,), (PADDED, GLOBAL)])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound, kinds, monkeypatch):
    theirs, batch = reference(dtype), inputs(*kinds)
    ours = from_transformers(theirs)
    if dtype == torch.float64:
        without_float32(monkeypatch, modeling_longformer)
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch)
    assert_same(a, b, FIELDS, bound, rows=batch["attention_mask"].bool())


@pytest.mark.parametrize("length", [3, 8, 16])
def test_same_output_at_other_lengths(length, monkeypatch):
    theirs, batch = reference(), inputs(length=length)
    ours = from_transformers(theirs)
    without_float32(monkeypatch, modeling_longformer)
    with torch.no_grad():
        assert_same(ours(**batch), theirs(**batch), FIELDS, 1e-9)


def test_same_output_without_masks(monkeypatch):
    theirs, ids = reference(), inputs()["input_ids"]
    ours = from_transformers(theirs)
    without_float32(monkeypatch, modeling_longformer)
    with torch.no_grad():
        assert_same(ours(ids), theirs(ids), FIELDS, 1e-9)


def test_inputs_matter():
    ours, batch = from_transformers(reference()), inputs(PADDED, GLOBAL)
    changed = {
        "input_ids": (batch["input_ids"] + 1) % 83,
        "attention_mask": torch.ones_like(batch["attention_mask"]),
        "token_type_ids": (batch["token_type_ids"] + 1) % 3,
        "global_attention_mask": torch.zeros_like(batch["attention_mask"]),
    }
    with torch.no_grad():
        assert_inputs_matter(lambda **x: ours(**x).last_hidden_state, batch, changed)


def test_same_gradient(monkeypatch):
    theirs, batch = reference(), inputs(PADDED, GLOBAL)
    ours = from_transformers(theirs)
    without_float32(monkeypatch, modeling_longformer)
    rows = batch["attention_mask"].bool()
    for model in (ours, theirs):
        model(**batch).last_hidden_state[rows].square().sum().backward()
    block, reference_block = ours.layers[1], theirs.encoder.layer[1]
    own, projections = block.attention, reference_block.attention.self
    names = ("query", "key", "value")
    joined = torch.cat([getattr(projections, name).weight.grad for name in names])
    pairs = [
        (own.qkv.weight, joined),
        (own.q_global.weight, projections.query_global.weight.grad),
        (own.k_global.weight, projections.key_global.weight.grad),
        (own.v_global.bias, projections.value_global.bias.grad),
        (block.feed_forward.down.weight, reference_block.output.dense.weight.grad),
        (ours.embeddings.positions.weight, theirs.embeddings.position_embeddings.weight.grad),
    ]
    for parameter, expected in pairs:
        assert relative_difference(parameter.grad, expected) <= 1e-9


@pytest.mark.parametrize("kinds", [(), (PADDED,), (PADDED, GLOBAL)])
def test_recording_changes_nothing(kinds):
    """The recorded matrix is the definition: window or global, and no padding."""
    ours, batch = from_transformers(reference()), inputs(*kinds)
    rows = batch["attention_mask"].bool()
    with torch.no_grad(), record_attention(ours) as maps:
        written_out = ours(**batch)
    with torch.no_grad():
        assert_same(ours(**batch), written_out, FIELDS, 1e-9, rows=rows)
    assert [m.name for m in maps] == [f"layers.{i}.attention" for i in range(3)]
    place = torch.arange(29)
    near = (place[:, None] - place).abs() <= 2  # the first layer's window is 4
    chosen = batch.get("global_attention_mask", torch.zeros(3, 29)).bool() & rows
    allowed = (near | chosen[:, None] | chosen[:, :, None]) & rows[:, None]
    assert torch.equal(maps[0].weights[:, 1] > 0, allowed)


def test_a_token_sees_its_window_and_no_further():
    ours = from_transformers(reference())
    batch = inputs()
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][:, 20] = 3 + (changed["input_ids"][:, 20] - 2) % 80
    with torch.no_grad():
        before, after = (ours(**x).last_hidden_state for x in (batch, changed))
    moved = (before != after).any(dim=-1).any(dim=0).nonzero().flatten()
    reach = 2 + 4 + 2  # half of each layer's window
    assert moved.tolist() == list(range(20 - reach, min(29, 20 + reach + 1)))


def test_full_attention_is_a_window_over_all():
    """And as a layer's choice it makes attention hierarchical."""
    wide = LongformerConfig.from_hf(CONFIG)
    models = {
        name: LongformerModel(replace(wide, windows=windows)).double()
        for name, windows in (("wide", (4, 64, 64)), ("full", (4, None, None)))
    }
    randomise(models["wide"])
    models["full"].load_state_dict(models["wide"].state_dict())
    for kinds in ((), (PADDED, GLOBAL)):
        batch = inputs(*kinds)
        rows = batch["attention_mask"].bool()
        with torch.no_grad():
            a, b = (model.eval()(**batch) for model in models.values())
            assert_same(a, b, FIELDS, 1e-9, rows=rows)
            with record_attention(models["full"]):
                assert_same(models["full"](**batch), b, FIELDS, 1e-9, rows=rows)


@pytest.mark.parametrize(("config", "count"), [("base", 148_659_456), ("large", 434_600_960)])
def test_published_sizes(config, count):
    config = getattr(LongformerConfig, config)()
    theirs = transformers.LongformerConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.d_ff,
        max_position_embeddings=config.max_length,
        type_vocab_size=config.type_vocab_size,
        layer_norm_eps=config.eps,
    )
    assert LongformerConfig.from_hf(theirs) == config
    with torch.device("meta"):
        assert sum(p.numel() for p in LongformerModel(config).parameters()) == count
        assert transformers.LongformerModel(theirs).num_parameters() == count


def test_folder_saved_by_transformers(tmp_path):
    theirs, batch = reference(torch.float32), inputs(PADDED, GLOBAL)
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        a, b = load_pretrained(tmp_path)(**batch), theirs(**batch)
    assert_same(a, b, FIELDS, 1e-5, rows=batch["attention_mask"].bool())


def test_errors():
    ours, batch = from_transformers(reference()), inputs()
    with pytest.raises(ValueError, match=r"windows\[1\]=3, expected an even number"):
        LongformerConfig(windows=(2, 3))
    with pytest.raises(ValueError, match=r"global_attention_mask has shape \(3, 28\), expected"):
        ours(batch["input_ids"], global_attention_mask=torch.zeros(3, 28))
    with pytest.raises(ValueError, match="expected only 1 .token. and 0"):
        ours(batch["input_ids"], batch["attention_mask"] * 2)
    with pytest.raises(ValueError, match="max_length=60"):
        ours(inputs(length=58)["input_ids"])
