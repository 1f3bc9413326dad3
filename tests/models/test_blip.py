"""The model that BLIP pre-trains: what is shared, what looks at what, and what it becomes."""

import json

import pytest
import torch

from tests.test_image_text_losses import batch, tiny
from zoo_lessons import checkpoints
from zoo_lessons.layers import record_attention
from zoo_lessons.models import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForPreTraining,
    BlipForQuestionAnswering,
    ViTConfig,
)
from zoo_lessons.parity import randomise


def random_model(**changes):
    return randomise(tiny(**changes), scale=0.5)


def test_encoder_and_decoder_share_all_but_self_attention():
    model = tiny()
    encoder, decoder = model.text_encoder, model.text_decoder
    assert decoder.text.embeddings is encoder.embeddings
    assert decoder.predictions.decoder.weight is encoder.embeddings.word.weight
    shared, own = set(), set()
    for (name, mine), theirs in zip(
        decoder.text.layers.named_parameters(), encoder.layers.parameters(), strict=True
    ):
        (shared if mine is theirs else own).add(name.split(".")[1])
    assert own == {"self_attention", "residual1"}
    assert shared == {"cross_attention", "residual2", "feed_forward", "residual3"}


def test_size_of_base():
    """The decoder adds self-attention and its norm only."""
    with torch.device("meta"):
        model = BlipForPreTraining(BlipConfig.base())
        own = sum(p.numel() for p in model.parameters())
        separate = BlipForQuestionAnswering(BlipConfig.base())
    decoder_only = sum(
        p.numel()
        for name, p in model.text_decoder.text.layers.named_parameters()
        if name.split(".")[1] in ("self_attention", "residual1")
    )
    assert decoder_only == 12 * (4 * (768 * 768 + 768) + 2 * 768)
    assert own < sum(p.numel() for p in separate.parameters())


@pytest.mark.parametrize("first", [1, 5, 12])
def test_the_first_token_is_set_by_the_task(first):
    model, (pixels, ids, mask) = random_model(), batch()
    changed = ids.clone()
    changed[:, 0] = first
    with torch.no_grad():
        image = model.encode_image(pixels)
        for run in (
            lambda x: model.text_features(x, mask),
            lambda x: model.match(x, mask, image),
            lambda x: model.caption_logits(x, mask, image),
        ):
            assert torch.equal(run(ids), run(changed))
    assert (ids[:, 0] == 1).all()  # the input is left alone


def test_the_three_first_tokens_differ():
    model, (pixels, ids, mask) = random_model(), batch()
    with torch.no_grad():
        image = model.encode_image(pixels)
        for name in ("cls_token_id", "enc_token_id", "bos_token_id"):
            other = random_model(**{name: 3})
            outputs = [
                (m.text_features(ids, mask), m.match(ids, mask, image),
                 m.caption_logits(ids, mask, image)) for m in (model, other)
            ]  # fmt: skip
            same = [torch.equal(a, b) for a, b in zip(*outputs, strict=True)]
            assert same == [name != n for n in ("cls_token_id", "enc_token_id", "bos_token_id")]


def test_who_looks_at_the_image():
    model, (pixels, ids, mask) = random_model(), batch()
    other = pixels.flip(-1)
    with torch.no_grad():
        one, two = model.encode_image(pixels), model.encode_image(other)
        assert (model.match(ids, mask, one) - model.match(ids, mask, two)).abs().max() > 1e-3
        a, b = model.caption_logits(ids, mask, one), model.caption_logits(ids, mask, two)
        assert (a - b).abs().max() > 1e-3
        with record_attention(model) as maps:
            model.text_features(ids, mask)
        assert not any("cross" in m.name for m in maps)
        changed = ids.clone()
        changed[:, 3:] = 10
        c = model.caption_logits(changed, None, one)
        d = model.caption_logits(ids, None, one)
    assert torch.equal(c[:, :3], d[:, :3]) and not torch.equal(c[:, 3:], d[:, 3:])


def test_padding_changes_nothing():
    model, (pixels, ids, mask) = random_model(), batch()
    with torch.no_grad():
        image = model.encode_image(pixels)
        for i, length in enumerate(mask.sum(dim=1)):
            alone, picture = ids[i : i + 1, :length], image[i : i + 1]
            for together, single in (
                (model.text_features(ids, mask)[i], model.text_features(alone)[0]),
                (model.match(ids, mask, image)[i], model.match(alone, None, picture)[0]),
                (
                    model.caption_logits(ids, mask, image)[i, :length],
                    model.caption_logits(alone, None, picture)[0],
                ),
            ):
                torch.testing.assert_close(together, single)


def test_models_for_one_task():
    model, (pixels, ids, mask) = random_model(), batch()
    captioner = BlipForConditionalGeneration.from_pretraining(model)
    matcher = BlipForImageTextRetrieval.from_pretraining(model)
    with torch.no_grad():
        image = model.encode_image(pixels)
        a, b = captioner(pixels, ids, mask).logits, model.caption_logits(ids, mask, image)
        assert torch.equal(a, b)
        enc, cls = ids.clone(), ids.clone()
        enc[:, 0], cls[:, 0] = 12, 11
        found = matcher(enc, pixels, attention_mask=mask).itm_score
        assert torch.equal(found, model.match(ids, mask, image))
        found = matcher(cls, pixels, use_itm_head=False, attention_mask=mask).itm_score
        expected = model.image_features(image) @ model.text_features(ids, mask).T
        assert torch.equal(found, expected)
    before = captioner(pixels, ids, mask).logits
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(captioner(pixels, ids, mask).logits, before)  # a copy
    with pytest.raises(RuntimeError, match="size mismatch"):  # image 16 wide, text 8
        BlipForQuestionAnswering.from_pretraining(model)
    with pytest.raises(TypeError, match="model is a Linear, expected a BlipForPreTraining"):
        BlipForConditionalGeneration.from_pretraining(torch.nn.Linear(1, 1))


def test_question_answering_from_pretraining():
    model, (pixels, ids, mask) = random_model(d_model=16), batch()
    answerer = BlipForQuestionAnswering.from_pretraining(model)
    output = answerer(ids, pixels, attention_mask=mask, labels=ids)
    assert output.logits.shape == (4, 5, 13) and output.loss.ndim == 0
    answers = answerer.generate(ids, pixels, mask, max_new_tokens=3)
    assert (answers[:, 0] == 1).all()
    with pytest.raises(ValueError, match="both missing, expected one of them"):
        answerer(ids, pixels)


def test_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "data_dir", lambda: tmp_path)
    model, (pixels, ids, mask) = random_model().float(), batch()
    pixels = pixels.float()
    checkpoints.save_trained("tiny_blip", model)
    about = json.loads((tmp_path / "checkpoints/tiny_blip/config.json").read_text())
    assert about["config"]["vision"]["image_size"] == 12
    loaded = checkpoints.load_trained("tiny_blip")
    assert loaded.config == model.config
    test_parts = loaded.text_decoder.text.layers[0], loaded.text_encoder.layers[0]
    assert test_parts[0].feed_forward is test_parts[1].feed_forward
    with torch.no_grad():
        a, b = (m.caption_logits(ids, mask, m.encode_image(pixels)) for m in (model, loaded))
    torch.testing.assert_close(a, b, atol=0.05, rtol=0.05)


def test_a_convolutional_stem():
    model, (pixels, *_rest) = tiny(), batch()
    with pytest.raises(ValueError, match="power of 2|patch_size=6"):
        tiny(stem="convolutions")
    vision = ViTConfig(
        image_size=16, patch_size=8, d_model=16, num_layers=1, num_heads=2, d_ff=16, num_labels=0
    )
    other = tiny(stem="convolutions", vision=vision)
    pixels = torch.zeros(2, 3, 16, 16, dtype=torch.float64)
    assert other.encode_image(pixels).shape == (2, 1 + 4, 16)
    captioner = BlipForConditionalGeneration.from_pretraining(other)
    assert torch.equal(captioner.vision_model(pixels).last_hidden_state, other.encode_image(pixels))
    assert model.config.stem == "patches"


def test_errors():
    with pytest.raises(ValueError, match="vision.num_labels=5, expected 0"):
        BlipConfig(vision=ViTConfig(num_labels=5))
    with pytest.raises(ValueError, match="stem='conv', expected"):
        BlipConfig(stem="conv")
    model, (_, ids, mask) = tiny(), batch()
    with pytest.raises(ValueError, match="holds ids from 0 to 13, expected 0 to 12"):
        model.text_features(torch.where(ids == 9, 13, ids), mask)
