"""Our Mamba against transformers', and reading in pieces against reading at once."""

import copy

import pytest
import safetensors.torch
import torch
import transformers
from transformers.models.mamba import modeling_mamba

from tests.parity.casts import without_float32
from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from zoo_lessons.generation import generate
from zoo_lessons.layers import KeyValueCache
from zoo_lessons.models import Mamba, MambaConfig
from zoo_lessons.weights import from_transformers, load_pretrained

CONFIG = transformers.MambaConfig(
    vocab_size=83,
    hidden_size=24,
    state_size=5,
    num_hidden_layers=3,
    layer_norm_epsilon=1e-4,
    expand=3,
    conv_kernel=3,
    use_bias=True,
    use_conv_bias=True,
    hidden_act="gelu",
    time_step_rank=7,
    pad_token_id=2,
    bos_token_id=3,
    eos_token_id=4,
)
PLAIN = transformers.MambaConfig(
    vocab_size=83, hidden_size=24, num_hidden_layers=2, use_conv_bias=False, hidden_act="relu"
)
HYBRID = MambaConfig(
    vocab_size=83,
    d_model=24,
    num_layers=4,
    d_state=5,
    attention_layers=(1, 3),
    num_heads=4,
    d_ff=40,
)
LEFT, RIGHT = "left", "right"


def reference(dtype, kind=transformers.MambaForCausalLM, config=CONFIG):
    theirs = randomise(kind._from_config(copy.deepcopy(config), dtype=dtype), scale=0.25)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith(("norm.weight", "norm_f.weight")):  # norms near 1
                parameter += 1
            if name.endswith("A_log"):  # A from about -0.1 to -7
                parameter.uniform_(-2.0, 2.0, generator=generator)
    return theirs


def random_ours(config, dtype=torch.float64):
    return randomise(Mamba(config).to(dtype))


def inputs(padding=None):
    ids = torch.randint(0, 83, (3, 11), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 11, dtype=torch.long)
    if padding == RIGHT:
        mask[0, 7:] = 0
        mask[2, 3:] = 0
    if padding == LEFT:
        mask[0, :4] = 0
        mask[2, :8] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("config", [CONFIG, PLAIN], ids=["all options", "no biases"])
@pytest.mark.parametrize("padding", [None, LEFT, RIGHT])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound, padding, config, monkeypatch):
    theirs, batch = reference(dtype, config=config), inputs(padding)
    ours = from_transformers(theirs)
    if dtype == torch.float64:
        without_float32(monkeypatch, modeling_mamba)
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch, output_hidden_states=True)
    b.last_hidden_state = b.hidden_states[-1]
    assert b.logits.dtype == dtype
    # Padded positions, too: the reference has values there that mean nothing, and so do we.
    assert_same(a, b, ["logits", "last_hidden_state"], bound)


def test_same_output_without_a_head(monkeypatch):
    theirs, batch = reference(torch.float64, transformers.MambaModel), inputs(LEFT)
    ours = from_transformers(theirs)
    without_float32(monkeypatch, modeling_mamba)
    with torch.no_grad():
        assert_same(ours(**batch), theirs(**batch), ["last_hidden_state"], 1e-9)


def test_inputs_matter():
    ours, batch = from_transformers(reference(torch.float64)), inputs(LEFT)
    changed = {
        "input_ids": (batch["input_ids"] + 1) % 83,
        "attention_mask": torch.ones_like(batch["attention_mask"]),
    }
    with torch.no_grad():
        assert_inputs_matter(lambda **x: ours(**x).logits[:, -1], batch, changed)
        first = batch["input_ids"].clone()
        first[:, 0] = (first[:, 0] + 1) % 83  # the state carries it to the end
        assert_inputs_matter(
            lambda input_ids: ours(input_ids).logits[:, -1],
            {"input_ids": batch["input_ids"]},
            {"input_ids": first},
        )


def test_every_parameter_matters():
    """Otherwise parity would say nothing about those that do not."""
    ours, batch = from_transformers(reference(torch.float64)), inputs()
    with torch.no_grad():
        before = ours(**batch).logits
        for name, parameter in ours.named_parameters():
            parameter += 0.1
            assert (ours(**batch).logits - before).abs().max() > 1e-4, name
            parameter -= 0.1


def test_same_gradient(monkeypatch):
    theirs, batch = reference(torch.float64), inputs(RIGHT)
    ours = from_transformers(theirs)
    without_float32(monkeypatch, modeling_mamba)
    for model in (ours, theirs):
        model(**batch).logits.square().sum().backward()
    mixer, reference_mixer = ours.layers[1].mixer, theirs.backbone.layers[1].mixer
    pairs = [
        (mixer.in_proj.weight, reference_mixer.in_proj.weight),
        (mixer.conv.weight, reference_mixer.conv1d.weight),
        (mixer.conv.bias, reference_mixer.conv1d.bias),
        (mixer.ssm.x_proj.weight, reference_mixer.x_proj.weight),
        (mixer.ssm.dt_proj.bias, reference_mixer.dt_proj.bias),
        (mixer.ssm.A_log, reference_mixer.A_log),
        (mixer.ssm.D, reference_mixer.D),
        (ours.layers[1].norm.weight, theirs.backbone.layers[1].norm.weight),
        (ours.embedding.weight, theirs.backbone.embeddings.weight),
    ]
    for parameter, expected in pairs:
        assert relative_difference(parameter.grad, expected.grad) <= 1e-9


def test_cached_steps_equal_theirs(monkeypatch):
    theirs, ids = reference(torch.float64), inputs()["input_ids"]
    ours = from_transformers(theirs)
    without_float32(monkeypatch, modeling_mamba)
    cache, their_cache = ours.new_cache(), None
    with torch.no_grad():
        for i in range(11):
            a = ours(ids[:, i : i + 1], cache=cache)
            b = theirs(ids[:, i : i + 1], cache_params=their_cache, use_cache=True)
            their_cache = b.cache_params
            assert relative_difference(a.logits, b.logits) <= 1e-9


MODELS = {
    "Mamba": lambda: from_transformers(reference(torch.float64)),
    "without selection": lambda: random_ours(
        MambaConfig(vocab_size=83, d_model=24, num_layers=3, selective=False)
    ),
    "hybrid": lambda: random_ours(HYBRID),
}
every_kind = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


@every_kind
@pytest.mark.parametrize("padding", [None, LEFT])
@pytest.mark.parametrize("sizes", [[1] * 11, [4, 1, 1, 5]])
def test_reading_in_pieces_changes_nothing(build, sizes, padding):
    ours, batch = build(), inputs(padding)
    cache, start, logits = ours.new_cache(), 0, []
    with torch.no_grad():
        expected = ours(**batch).logits
        for size in sizes:
            stop = start + size
            piece = batch["input_ids"][:, start:stop]
            logits.append(ours(piece, batch["attention_mask"][:, :stop], cache=cache).logits)
            start = stop
            assert cache.length == stop
    rows = batch["attention_mask"].bool()
    assert relative_difference(torch.cat(logits, dim=1)[rows], expected[rows]) <= 1e-9


@every_kind
def test_future_tokens_change_nothing(build):
    ours, ids = build(), inputs()["input_ids"]
    changed = ids.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 83
    with torch.no_grad():
        before, after = ours(ids).logits, ours(changed).logits
    assert relative_difference(after[:, :6], before[:, :6]) <= 1e-12
    assert ((before - after)[:, 6:].abs().amax(dim=-1) > 1e-4).all()


@pytest.mark.parametrize("name", ["without selection", "hybrid"])
def test_left_padding_changes_nothing(name):
    ours, batch = MODELS[name](), inputs(LEFT)
    with torch.no_grad():
        padded, alone = ours(**batch).logits[2, 8:], ours(batch["input_ids"][2:, 8:]).logits[0]
    assert relative_difference(padded, alone) <= 1e-9


def test_memory_of_the_cache():
    """The state's size is fixed; attention's share grows with every token."""
    ids = inputs()["input_ids"]
    sizes = {}
    for name, build in MODELS.items():
        ours, sizes[name] = build(), []
        cache = ours.new_cache()
        assert cache.nbytes == 0
        with torch.no_grad():
            for piece in (ids[:, :2], ids[:, 2:3], ids[:, 3:]):
                ours(piece, cache=cache)
                sizes[name].append(cache.nbytes)
    layer = 3 * 72 * (2 + 5) * 8  # batch, d_inner, kernel - 1 and d_state, bytes
    assert sizes["Mamba"] == [3 * layer] * 3
    mamba, token = 2 * 3 * 48 * (3 + 5) * 8, 2 * 2 * 3 * 24 * 8
    assert sizes["hybrid"] == [mamba + n * token for n in (2, 3, 11)]


@every_kind
def test_reordering_the_cache(build):
    ours, ids = build(), inputs()["input_ids"]
    order = torch.tensor([2, 0, 0])
    cache, fresh = ours.new_cache(), ours.new_cache()
    with torch.no_grad():
        ours(ids[:, :6], cache=cache)
        cache.reorder(order)
        ours(ids[order, :6], cache=fresh)
        a, b = (ours(ids[:, 6:], cache=c).logits for c in (cache, fresh))
    assert relative_difference(a, b) <= 1e-12


@every_kind
def test_generation(build):
    """`generate` reads everything again at each step; a cache gives the same text."""
    ours, ids = build(), inputs()["input_ids"]
    text = generate(ours, ids, max_new_tokens=6, use_cache=False)
    cache, piece, tokens = ours.new_cache(), ids, [ids]
    with torch.no_grad():
        for _ in range(6):
            piece = ours(piece, cache=cache).logits[:, -1:].argmax(dim=-1)
            tokens.append(piece)
    assert torch.equal(text, torch.cat(tokens, dim=1))


def test_generation_with_left_padding():
    ours, batch = random_ours(HYBRID), inputs(LEFT)
    mask = batch["attention_mask"]
    together = generate(
        ours, batch["input_ids"], attention_mask=mask, max_new_tokens=5, use_cache=False
    )
    alone = generate(ours, batch["input_ids"][2:, 8:], max_new_tokens=5, use_cache=False)
    assert torch.equal(together[2, 8:], alone[0])


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (MambaConfig.mamba_130m(), 129_135_360),
        (MambaConfig.mamba_370m(), 371_516_416),
        (MambaConfig.mamba_790m(), 793_204_224),
    ],
)
def test_published_sizes(config, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in Mamba(config).parameters()) == count
        theirs = transformers.MambaConfig(
            hidden_size=config.d_model, num_hidden_layers=config.num_layers
        )
        assert transformers.MambaForCausalLM(theirs).num_parameters() == count
        assert sum(p.numel() for p in Mamba(MambaConfig.from_hf(theirs)).parameters()) == count


def test_initialisation():
    torch.manual_seed(0)
    ours = Mamba(MambaConfig(vocab_size=500, d_model=64, num_layers=4))
    assert ours.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for layer in ours.layers:
        assert layer.mixer.ssm.dt_proj.in_features == 4  # 64 / 16
        # uniform up to 1/√d_inner, divided by √num_layers
        assert layer.mixer.out_proj.weight.abs().max().item() == pytest.approx(
            128**-0.5 / 2, rel=0.01
        )


@every_kind
def test_trains(build):
    """A few steps on one batch, every parameter with a gradient."""
    ours, ids = build().float(), inputs()["input_ids"]
    optimizer, losses = torch.optim.Adam(ours.parameters(), lr=2e-2), []
    for _ in range(30):
        logits = ours(ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in ours.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_errors():
    ours, ids = random_ours(HYBRID), inputs()["input_ids"]
    with pytest.raises(ValueError, match="holds ids from 83 to 83, expected 0 to 82"):
        ours(ids * 0 + 83)
    with pytest.raises(TypeError, match="cache is a KeyValueCache, expected a MambaCache"):
        ours(ids, cache=KeyValueCache(4))
    with pytest.raises(ValueError, match="cache has 3 layers, expected num_layers=4"):
        ours(ids, cache=MODELS["Mamba"]().new_cache())
    with pytest.raises(ValueError, match="covers 3 tokens, expected 11: 0 cached and 11 new"):
        ours(ids, torch.ones(3, 3))
    with pytest.raises(ValueError, match="attention_layers=.7,., expected indices from 0 to 3"):
        MambaConfig(num_layers=4, attention_layers=(7,))
    with pytest.raises(ValueError, match="activation 'swish' is unknown"):
        MambaConfig(activation="swish")
    config = copy.deepcopy(CONFIG)
    config.tie_word_embeddings = False
    with pytest.raises(ValueError, match="tie_word_embeddings=False, expected True"):
        from_transformers(transformers.MambaForCausalLM(config))


@pytest.mark.parametrize("kind", [transformers.MambaForCausalLM, transformers.MambaModel])
def test_folder_saved_by_transformers(kind, tmp_path):
    reference(torch.float32, kind).save_pretrained(tmp_path)
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in state
    ours, theirs = load_pretrained(tmp_path), kind.from_pretrained(tmp_path)
    fields = ["logits"] if kind is transformers.MambaForCausalLM else ["last_hidden_state"]
    with torch.no_grad():
        assert_same(ours(**inputs(LEFT)), theirs(**inputs(LEFT)), fields, 1e-5)
    # The authors' own files call the embedding otherwise, and hold the output layer, too.
    older = {key.replace("embeddings", "embedding"): value for key, value in state.items()}
    embedding = next(value for key, value in older.items() if "embedding" in key)
    older["lm_head.weight"] = embedding.clone()
    safetensors.torch.save_file(older, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with torch.no_grad():
        assert_same(load_pretrained(tmp_path)(**inputs()), ours(**inputs()), ["logits"], 1e-9)
