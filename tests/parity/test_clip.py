"""Our CLIP against transformers.CLIPModel."""

import copy
import math

import pytest
import torch
import transformers

from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from zoo_lessons.contrastive import contrastive_loss
from zoo_lessons.layers import record_attention
from zoo_lessons.models.clip import CLIP, CLIPConfig
from zoo_lessons.weights import from_transformers, load_pretrained

EOS = 57
FIELDS = ["logits_per_image", "logits_per_text", "image_embeds", "text_embeds", "loss"]
VISION = {
    "image_size": 20,
    "patch_size": 5,
    "num_channels": 2,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-4,
}
TEXT = {
    "vocab_size": 61,
    "hidden_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 36,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-3,
    "max_position_embeddings": 11,
    "eos_token_id": EOS,
    "bos_token_id": 1,
    "pad_token_id": 0,
}


def config(activation="quick_gelu", eos_token_id=EOS):
    return transformers.CLIPConfig(
        vision_config={**VISION, "hidden_act": activation},
        text_config={**TEXT, "hidden_act": activation, "eos_token_id": eos_token_id},
        projection_dim=16,
        logit_scale_init_value=1.5,
    )


def reference(dtype=torch.float64, **changes):
    return randomise(transformers.CLIPModel(config(**changes))).to(dtype)


def inputs(dtype=torch.float64, height=20, width=20):
    """Texts of different lengths, each with ids above and below [EOS] after its end."""
    draw = torch.Generator().manual_seed(1)
    pixel_values = torch.randn(4, 2, height, width, generator=draw, dtype=torch.float64).to(dtype)
    input_ids = torch.randint(1, EOS, (4, 9), generator=draw)
    attention_mask = torch.zeros_like(input_ids)
    for row, end in enumerate((8, 3, 5, 1)):
        input_ids[row, end] = EOS
        attention_mask[row, : end + 1] = 1
    input_ids[1, 6] = EOS  # a second one, which counts for nothing
    input_ids[2, 7] = EOS + 2
    return {"input_ids": input_ids, "pixel_values": pixel_values, "attention_mask": attention_mask}


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos_token_id", [EOS, 2])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound, eos_token_id, activation):
    theirs = reference(dtype, activation=activation, eos_token_id=eos_token_id)
    ours, batch = from_transformers(theirs), inputs(dtype)
    for given in (batch, {**batch, "attention_mask": None}):
        with torch.no_grad():
            assert_same(
                ours(**given, return_loss=True), theirs(**given, return_loss=True), FIELDS, bound
            )


def test_the_two_poolings_and_activations_differ():
    batch = inputs()
    found = []
    for changes in ({}, {"eos_token_id": 2}, {"activation": "gelu"}):
        with torch.no_grad():
            found.append(from_transformers(reference(**changes))(**batch).text_embeds)
    assert (found[0][2] - found[1][2]).abs().max() > 1e-2  # row 2 has a higher id than [EOS]
    torch.testing.assert_close(found[0][0], found[1][0])  # row 0 has not
    assert (found[0] - found[2]).abs().max() > 1e-4


def test_another_number_of_texts():
    theirs = reference()
    ours, batch = from_transformers(theirs), inputs()
    batch["pixel_values"] = batch["pixel_values"][:3]
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch)
    assert a.logits_per_image.shape == (3, 4) and a.loss is None
    assert_same(a, b, FIELDS[:4], 1e-9)


def test_another_image_size():
    theirs = reference()
    ours, batch = from_transformers(theirs), inputs(height=30, width=15)
    with torch.no_grad():
        a = ours(**batch, interpolate_pos_encoding=True)
        b = theirs(**batch, interpolate_pos_encoding=True)
    assert_same(a, b, FIELDS[:4], 1e-9)
    with pytest.raises(ValueError, match="30×15, expected 20×20; pass interpolate_pos_encoding"):
        ours(**batch)


def test_inputs_matter():
    ours, batch = from_transformers(reference()), inputs()
    hidden = batch["attention_mask"].clone()
    hidden[:, 0] = 0
    changed = {
        "pixel_values": batch["pixel_values"].flip(-1),
        "input_ids": batch["input_ids"].clamp(min=20),
        "attention_mask": hidden,
    }
    with torch.no_grad():
        assert_inputs_matter(lambda **given: ours(**given).logits_per_image, batch, changed)


def test_same_gradient():
    theirs = reference()
    ours, batch = from_transformers(theirs), inputs()
    for model in (ours, theirs):
        model(**batch, return_loss=True).loss.backward()
    vision, text = theirs.vision_model, theirs.text_model
    attention = text.encoder.layers[1].self_attn
    theirs_qkv = torch.cat([getattr(attention, f"{name}_proj").weight.grad for name in "qkv"])
    assert relative_difference(ours.text.layers[1].attention.qkv.weight.grad, theirs_qkv) <= 1e-9
    for a, b in [
        (ours.logit_scale, theirs.logit_scale),
        (ours.image_projection.weight, theirs.visual_projection.weight),
        (ours.vision.class_token, vision.embeddings.class_embedding),
        (ours.vision.patches.projection.weight, vision.embeddings.patch_embedding.weight),
        (ours.vision.pre_norm.weight, vision.pre_layrnorm.weight),
        (ours.text.embedding.weight, text.embeddings.token_embedding.weight),
    ]:
        assert b.grad.abs().max() > 0
        assert relative_difference(a.grad, b.grad) <= 1e-9


def test_same_attention_maps():
    theirs = transformers.CLIPModel._from_config(
        config(), attn_implementation="eager", dtype=torch.float64
    )
    randomise(theirs)
    ours, batch = from_transformers(theirs), inputs()
    with torch.no_grad(), record_attention(ours) as maps:
        ours(**batch)
    with torch.no_grad():
        output = theirs(**batch, output_attentions=True)
    # their eager softmax is computed in float32
    for tower, expected in (
        ("vision", output.vision_model_output),
        ("text", output.text_model_output),
    ):
        found = maps.stack(f"{tower}.")
        assert relative_difference(found, torch.stack(expected.attentions)) <= 1e-6


@pytest.mark.parametrize("eos_token_id", [EOS, 2])
def test_names_in_files(tmp_path, eos_token_id):
    theirs, batch = reference(torch.float32, eos_token_id=eos_token_id), inputs(torch.float32)
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        assert_same(load_pretrained(tmp_path)(**batch), theirs(**batch), FIELDS[:4], 1e-5)


def test_the_loss_of_embeddings_is_the_models():
    theirs, batch = reference(), inputs()
    with torch.no_grad():
        output = theirs(**batch, return_loss=True)
        ours = contrastive_loss(output.image_embeds, output.text_embeds, theirs.logit_scale)
    assert relative_difference(ours, output.loss) <= 1e-9


@pytest.mark.parametrize(
    ("part", "option", "value", "message"),
    [
        ("vision_config", "attention_dropout", 0.1, "vision attention_dropout=0.1, expected 0"),
        ("text_config", "attention_dropout", 0.2, "text attention_dropout=0.2, expected 0"),
        ("vision_config", "patch_size", (5, 4), r"patch_size=\(5, 4\), expected one number"),
        ("text_config", "eos_token_id", [3, 4], r"eos_token_id=\[3, 4\], expected one number"),
        ("vision_config", "image_size", 21, "image_size=21 must be divisible by patch_size=5"),
    ],
)
def test_refused_configs(part, option, value, message):
    changed = copy.deepcopy(config())
    setattr(getattr(changed, part), option, value)
    with pytest.raises(ValueError, match=message):
        CLIPConfig.from_hf(changed)


def test_default_sizes_are_the_references():
    ours = CLIPConfig.from_hf(transformers.CLIPConfig())
    assert math.isclose(ours.temperature, CLIPConfig.base32().temperature, rel_tol=1e-4)
    assert (ours.vision, ours.text) == (CLIPConfig.base32().vision, CLIPConfig.base32().text)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (CLIPConfig.base32(), 151_277_313),
        (CLIPConfig.base16(), 149_620_737),
        (CLIPConfig.large14(), 427_616_513),
    ],
)
def test_published_sizes(config, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in CLIP(config).parameters()) == parameters
