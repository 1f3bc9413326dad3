"""Our MAE against transformers.ViTMAEForPreTraining."""

import copy

import pytest
import safetensors.torch
import torch
import transformers
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from zoo_lessons.models.mae import MAE, MAEConfig, patchify, random_masking, unpatchify
from zoo_lessons.weights import from_transformers, load_pretrained

FIELDS = ["loss", "logits", "mask"]
CONFIG = transformers.ViTMAEConfig(
    image_size=20,
    patch_size=5,
    num_channels=2,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=40,
    hidden_act="relu",
    layer_norm_eps=1e-4,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.2,
    decoder_num_attention_heads=2,
    decoder_hidden_size=16,
    decoder_num_hidden_layers=2,
    decoder_intermediate_size=28,
    mask_ratio=0.6,
    norm_pix_loss=True,
)


def reference(dtype=torch.float64, **changes):
    config = copy.deepcopy(CONFIG)
    for name, value in changes.items():
        setattr(config, name, value)
    return randomise(transformers.ViTMAEForPreTraining(config)).to(dtype)


def inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return {
        "pixel_values": torch.randn(3, 2, 20, 20, generator=generator, dtype=torch.float64).to(
            dtype
        ),
        "noise": torch.rand(3, 16, generator=generator, dtype=torch.float64).to(dtype),
    }


@pytest.mark.parametrize("norm_pix_loss", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound, norm_pix_loss):
    theirs = reference(dtype, norm_pix_loss=norm_pix_loss)
    ours, batch = from_transformers(theirs), inputs(dtype)
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch)
        latent = theirs.vit(**batch)
    assert_same(a, b, FIELDS, bound)
    assert_same(a, latent, ["last_hidden_state"], bound)
    assert torch.equal(a.ids_restore, b.ids_restore)


def test_inputs_matter():
    ours, batch = from_transformers(reference()), inputs()
    changed = {"pixel_values": batch["pixel_values"].flip(-1), "noise": batch["noise"].flip(-1)}
    with torch.no_grad():
        assert_inputs_matter(lambda **x: ours(**x).logits, batch, changed)


def test_same_gradient():
    theirs = reference()
    ours, batch = from_transformers(theirs), inputs()
    for model in (ours, theirs):
        model(**batch).loss.backward()
    for a, b in [
        (ours.decoder.mask_token, theirs.decoder.mask_token),
        (ours.embeddings.class_token, theirs.vit.embeddings.cls_token),
        (ours.layers[0].feed_forward.up.weight, theirs.vit.layers[0].mlp.fc1.weight),
    ]:
        assert relative_difference(a.grad, b.grad) <= 1e-9
    assert ours.embeddings.positions.grad is None


def test_fresh_positions_are_the_published_ones():
    # Their function gives row before column, the published weights column before row; a fresh
    # ViTMAEModel of transformers 5.23 holds zeros.
    row, column = build_2d_sinusoidal_position_embedding(4, 4, 24, cls_token=True).chunk(2, dim=-1)
    ours = MAE(MAEConfig.from_hf(CONFIG)).embeddings.positions
    torch.testing.assert_close(ours[0].detach(), torch.cat([column, row], dim=-1))


@pytest.mark.parametrize("published", [False, True])
def test_names_in_files(tmp_path, published):
    theirs, batch = reference(torch.float32), inputs(torch.float32)
    theirs.save_pretrained(tmp_path)
    if published:  # the hub's file has other names for the decoder than a file saved today
        file = tmp_path / "model.safetensors"
        state = safetensors.torch.load_file(file)
        names = {k: k.replace("decoder_encoder.layer.", "decoder_layers.") for k in state}
        assert list(names) != list(names.values())
        safetensors.torch.save_file({names[k]: v for k, v in state.items()}, file)
    with torch.no_grad():
        assert_same(load_pretrained(tmp_path)(**batch), theirs(**batch), FIELDS, 1e-5)


def test_patchify_as_theirs():
    theirs, images = reference(), inputs()["pixel_values"]
    assert torch.equal(patchify(images, 5), theirs.patchify(images))
    patches = torch.randn(3, 16, 50)
    assert torch.equal(unpatchify(patches, 5, 20, 20), theirs.unpatchify(patches))
    assert torch.equal(unpatchify(patchify(images, 5), 5, 20, 20), images)


def test_masking():
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3]])
    ids_keep, mask, ids_restore = random_masking(noise, 0.5)
    assert ids_keep.tolist() == [[1, 3]]
    assert mask.tolist() == [[1, 0, 1, 0]]
    assert ids_restore.tolist() == [[3, 0, 2, 1]]


def test_hidden_patches_are_not_seen():
    ours, batch = from_transformers(reference()), inputs()
    with torch.no_grad():
        latent, mask, _ = ours.encode(**batch)
        patches = patchify(batch["pixel_values"], 5)
        other = torch.where(mask[..., None].bool(), torch.randn_like(patches), patches)
        again, _, _ = ours.encode(unpatchify(other, 5, 20, 20), batch["noise"])
    assert torch.equal(latent, again)


def test_classifier_from_the_encoder():
    ours, batch = from_transformers(reference()).float(), inputs(torch.float32)
    vit = ours.to_vit(num_labels=5).eval()
    with torch.no_grad():
        latent, _, ids_restore = ours.encode(**batch, mask_ratio=0.0)
        seen = vit(batch["pixel_values"]).last_hidden_state
    order = ids_restore[..., None].expand(-1, -1, latent.shape[-1])
    torch.testing.assert_close(latent[:, 0], seen[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(latent[:, 1:].gather(1, order), seen[:, 1:], rtol=1e-4, atol=1e-5)
    assert vit.head.out_features == 5


def test_what_does_not_fit():
    ours, batch = from_transformers(reference()), inputs()
    with pytest.raises(ValueError, match="20×15, expected 20×20"):
        ours(batch["pixel_values"][..., :15])
    with pytest.raises(ValueError, match=r"noise has shape \(3, 15\).*\(3, 16\)"):
        ours(batch["pixel_values"], batch["noise"][:, :15])
    with pytest.raises(ValueError, match="mask_ratio=0.99 leaves 0 of 16 patches visible"):
        ours(**batch, mask_ratio=0.99)
    with pytest.raises(ValueError, match="decoder_d_model=18 must be divisible by positions=4"):
        MAEConfig(decoder_d_model=18)


def test_published_size():
    with torch.device("meta"):
        model = MAE(MAEConfig.base())
    assert sum(p.numel() for p in model.parameters()) == 111_907_840
