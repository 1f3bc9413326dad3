"""Our GPT against transformers.GPT2LMHeadModel, and its cache against reading everything again."""

import copy

import pytest
import safetensors.torch
import torch
import transformers

from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from zoo_lessons.layers import KeyValueCache, record_attention
from zoo_lessons.models import GPT, GPTConfig
from zoo_lessons.weights import from_transformers, load_pretrained

CONFIG = transformers.GPT2Config(
    vocab_size=83,
    n_positions=31,
    n_embd=48,
    n_layer=3,
    n_head=4,
    n_inner=80,
    activation_function="silu",
    resid_pdrop=0.3,
    embd_pdrop=0.2,
    attn_pdrop=0.15,
    layer_norm_epsilon=1e-4,
    bos_token_id=3,
    eos_token_id=4,
)
LEFT, RIGHT = "left", "right"


def reference(dtype, **options):
    model = transformers.GPT2LMHeadModel._from_config(copy.deepcopy(CONFIG), dtype=dtype, **options)
    return randomise(model)


def inputs(padding=None):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 83, (3, 11), generator=generator)
    mask = torch.ones(3, 11, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": mask}
    if padding == RIGHT:
        mask[0, 7:] = 0
        mask[2, 3:] = 0
    if padding == LEFT:
        mask[0, :4] = 0
        mask[2, :8] = 0
        batch["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return batch


@pytest.mark.parametrize("padding", [None, LEFT, RIGHT])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound, padding):
    theirs = reference(dtype)
    ours, batch = from_transformers(theirs), inputs(padding)
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch, output_hidden_states=True)
    b.last_hidden_state = b.hidden_states[-1]
    rows = batch["attention_mask"].bool()
    assert_same(a, b, ["logits", "last_hidden_state"], bound, rows=rows)


def test_left_padding_changes_nothing():
    ours, batch = from_transformers(reference(torch.float64)), inputs(LEFT)
    with torch.no_grad():
        padded, alone = ours(**batch).logits[2, 8:], ours(batch["input_ids"][2:, 8:]).logits[0]
    assert relative_difference(padded, alone) <= 1e-9


def test_inputs_matter():
    ours, batch = from_transformers(reference(torch.float64)), inputs(LEFT)
    changed = {
        "input_ids": (batch["input_ids"] + 1) % 83,
        "attention_mask": torch.ones_like(batch["attention_mask"]),
        "position_ids": batch["position_ids"] + 1,
    }
    with torch.no_grad():
        assert_inputs_matter(lambda **x: ours(**x).logits[:, -1], batch, changed)


def test_same_gradient():
    theirs = reference(torch.float64)
    ours, batch = from_transformers(theirs), inputs(RIGHT)
    rows = batch["attention_mask"].bool()
    for model in (ours, theirs):
        model(**batch).logits[rows].square().sum().backward()
    block, reference_block = ours.layers[1], theirs.transformer.h[1]
    pairs = [
        (block.attention.qkv.weight, reference_block.attn.c_attn.weight.grad.T),
        (block.feed_forward.down.weight, reference_block.mlp.c_proj.weight.grad.T),
        (ours.positions.weight, theirs.transformer.wpe.weight.grad),
        (ours.embedding.weight, theirs.transformer.wte.weight.grad),  # input and output
    ]
    for parameter, expected in pairs:
        assert relative_difference(parameter.grad, expected) <= 1e-9


def test_same_attention_maps():
    theirs = reference(torch.float64, attn_implementation="eager")
    ours, batch = from_transformers(theirs), inputs(RIGHT)
    with torch.no_grad(), record_attention(ours) as maps:
        ours(**batch)
    with torch.no_grad():
        expected = torch.stack(theirs(**batch, output_attentions=True).attentions)
    assert relative_difference(maps.stack(), expected) <= 1e-9


@pytest.mark.parametrize("padding", [None, LEFT])
@pytest.mark.parametrize("sizes", [[1] * 11, [4, 1, 1, 5]])
def test_cache_equals_recomputation(sizes, padding):
    ours, batch = from_transformers(reference(torch.float64)), inputs(padding)
    ids, mask, positions = (
        batch["input_ids"],
        batch["attention_mask"],
        batch.get("position_ids"),
    )
    cache, start, logits = KeyValueCache(3), 0, []
    with torch.no_grad():
        expected = ours(**batch).logits
        for size in sizes:
            stop = start + size
            output = ours(
                ids[:, start:stop],
                mask[:, :stop],
                position_ids=None if positions is None else positions[:, start:stop],
                cache=cache,
            )
            logits.append(output.logits)
            start = stop
            assert cache.length == stop
    rows = mask.bool()
    assert relative_difference(torch.cat(logits, dim=1)[rows], expected[rows]) <= 1e-9
    assert cache.nbytes == 2 * 3 * 3 * 11 * 48 * 8  # keys, values; layers, batch, length, d_model


def test_cached_steps_equal_theirs():
    theirs = reference(torch.float64)
    ours, ids = from_transformers(theirs), inputs()["input_ids"]
    cache, their_cache = KeyValueCache(3), None
    with torch.no_grad():
        for i in range(11):
            a = ours(ids[:, i : i + 1], cache=cache)
            b = theirs(ids[:, i : i + 1], past_key_values=their_cache, use_cache=True)
            their_cache = b.past_key_values
            assert relative_difference(a.logits, b.logits) <= 1e-9


def test_future_tokens_change_nothing():
    ours, ids = from_transformers(reference(torch.float64)), inputs()["input_ids"]
    changed = ids.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 83
    with torch.no_grad():
        before, after = ours(ids).logits, ours(changed).logits
    assert torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).any(dim=-1).all()


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (GPTConfig.small(), 124_439_808),
        (GPTConfig.medium(), 354_823_168),
        (GPTConfig.large(), 774_030_080),
        (GPTConfig.xl(), 1_557_611_200),
    ],
)
def test_published_sizes(config, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in GPT(config).parameters()) == count
        theirs = transformers.GPT2Config(
            n_embd=config.d_model, n_layer=config.num_layers, n_head=config.num_heads
        )
        assert GPTConfig.from_hf(theirs) == config
        assert transformers.GPT2LMHeadModel(theirs).num_parameters() == count


def test_initialisation():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=500, d_model=64, num_layers=8, num_heads=4, d_ff=256))
    for layer in model.layers:
        assert layer.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        for last in (layer.attention.out, layer.feed_forward.down):
            assert last.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)  # √(2 · 8) = 4
            assert not last.bias.any()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("reorder_and_upcast_attn", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
    ],
)
def test_unsupported_option(option, value):
    config = copy.deepcopy(CONFIG)
    setattr(config, option, value)
    model = transformers.GPT2LMHeadModel(config)
    with pytest.raises(ValueError, match=f"{option}={value}, expected {not value}"):
        from_transformers(model)


def test_errors():
    model = GPT(GPTConfig(vocab_size=9, d_model=8, num_layers=2, num_heads=2, d_ff=8, max_length=5))
    ids, cache = torch.ones(1, 5, dtype=torch.long), KeyValueCache(2)
    with pytest.raises(ValueError, match="holds ids from 9 to 9, expected 0 to 8"):
        model(ids * 9)
    with pytest.raises(ValueError, match="cache has 3 layers, expected num_layers=2"):
        model(ids, cache=KeyValueCache(3))
    with pytest.raises(ValueError, match="expected 0 to 4 .max_length=5"):
        model(ids, position_ids=ids * 5)
    model(ids, cache=cache)
    with pytest.raises(ValueError, match="5 cached and 1 new tokens .* most max_length=5"):
        model(ids[:, :1], cache=cache)
    with pytest.raises(
        ValueError, match=r"the cache holds \(1, 2, 5, 4\), expected the same batch"
    ):
        model(ids[:, :1].repeat(2, 1), position_ids=ids[:, :1], cache=cache)
    cache = KeyValueCache(2)
    model(ids[:, :3], cache=cache)
    with pytest.raises(ValueError, match="covers 2 tokens, expected 5: 3 cached and 2 new"):
        model(ids[:, 3:], ids[:, 3:], cache=cache)


@pytest.fixture
def folder(tmp_path):
    reference(torch.float32).save_pretrained(tmp_path)
    return tmp_path


def assert_loads_as_saved(folder):
    ours, batch = load_pretrained(folder), inputs(LEFT)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder)
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch)
    assert_same(a, b, ["logits"], 1e-5, rows=batch["attention_mask"].bool())
    assert not ours.training


def test_folder_saved_by_transformers(folder):
    assert "lm_head.weight" not in safetensors.torch.load_file(folder / "model.safetensors")
    assert_loads_as_saved(folder)


def test_published_file(folder):
    """The hub's "gpt2" has no prefix in its names, and stores causal masks."""
    file = folder / "model.safetensors"
    state = {
        key.removeprefix("transformer."): value
        for key, value in safetensors.torch.load_file(file).items()
    }
    for i in range(3):
        state[f"h.{i}.attn.bias"] = torch.ones(31, 31).tril()[None, None]
        state[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    safetensors.torch.save_file(state, file, metadata={"format": "pt"})
    assert_loads_as_saved(folder)


def test_file_with_another_output_layer(folder):
    file = folder / "model.safetensors"
    state = safetensors.torch.load_file(file)
    embedding = state["transformer.wte.weight"]
    safetensors.torch.save_file({**state, "lm_head.weight": embedding.clone()}, file)
    load_pretrained(folder)
    safetensors.torch.save_file({**state, "lm_head.weight": embedding + 1}, file)
    with pytest.raises(ValueError, match="our model has one weight for both"):
        load_pretrained(folder)


def test_missing_weight_is_an_error(folder):
    file = folder / "model.safetensors"
    state = safetensors.torch.load_file(file)
    del state["transformer.h.1.mlp.c_fc.bias"]
    safetensors.torch.save_file(state, file)
    with pytest.raises(RuntimeError, match="layers.1.feed_forward.up.bias"):
        load_pretrained(folder)


def test_gpt2_without_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"'gpt2' is neither .* Without a network, use"):
        load_pretrained("gpt2")
