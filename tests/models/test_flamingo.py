"""What the papers promise about Flamingo: frozen parts, gates, per-image masks, generation."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo_lessons.generation import beam_search, generate
from zoo_lessons.layers.attention import record_attention
from zoo_lessons.layers.cache import KeyValueCache
from zoo_lessons.models.clip import CLIPVisionConfig, CLIPVisionTower
from zoo_lessons.models.flamingo import (
    CLIPPatches,
    Flamingo,
    FlamingoConfig,
    GatedCrossAttention,
    PerceiverResampler,
    fingerprint,
    freeze,
    image_mask,
)
from zoo_lessons.models.gpt import GPT, GPTConfig
from zoo_lessons.models.vit import ViT, ViTConfig
from zoo_lessons.parity import randomise
from zoo_lessons.training import fit

IMAGE = 3
VISION = ViTConfig(
    image_size=8, patch_size=4, d_model=12, num_layers=1, num_heads=3, d_ff=20, num_labels=0
)
LANGUAGE = GPTConfig(
    vocab_size=17, d_model=16, num_layers=5, num_heads=2, d_ff=24, max_length=20, dropout=0.3
)
CONFIG = FlamingoConfig(
    vision=replace(VISION, dropout=0.3),
    language=LANGUAGE,
    image_token_id=IMAGE,
    every=2,
    num_latents=3,
    resampler_layers=2,
    resampler_heads=2,
    max_frames=4,
    cross_heads=4,
)
#           no image  1        2
TEXT = [[5, 6, IMAGE, 7, 8, IMAGE, 9, 10], [IMAGE, 4, IMAGE, 11, 12, 13, 14, 2]]


def flamingo(*, random=True, scale=0.4, **changes):
    torch.manual_seed(0)
    model = Flamingo(replace(CONFIG, **changes))
    return randomise(model, scale=scale) if random else model.eval()


def inputs(rows=2):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 2, 3, 8, 8, generator=generator)
    return torch.tensor(TEXT)[:rows], images[:rows]


def test_untrained_language_model_is_unchanged_bit_for_bit():
    model = flamingo(random=False)
    ids, images = inputs()
    with torch.no_grad():
        alone = model.language(ids)
        both, text_alone = model(ids, images), model(ids[:1, :2])
    assert torch.equal(both.logits, alone.logits)
    assert torch.equal(both.last_hidden_state, alone.last_hidden_state)
    assert torch.equal(text_alone.logits, model.language(ids[:1, :2]).logits)


def test_one_gated_block_before_every_nth():
    ids, images = inputs()
    for every, count in [(1, 5), (2, 3), (3, 2), (5, 1), (7, 1)]:
        model = flamingo(every=every)
        with torch.no_grad(), record_attention(model) as maps:
            model(ids, images)
        order = [m.name for m in maps if m.name.startswith(("gated", "language"))]
        expected = []
        for i in range(5):
            if i % every == 0:
                expected.append(f"gated.{i // every}.attention")
            expected.append(f"language.layers.{i}.attention")
        assert order == expected
        assert len(model.gated) == count
        assert not any(block._forward_pre_hooks for block in model.language.layers)


def test_hooks_are_gone_after_an_error():
    model = flamingo()
    with pytest.raises(ValueError, match="cache has 2 layers"):
        model(*inputs(), cache=KeyValueCache(2))
    assert not any(block._forward_pre_hooks for block in model.language.layers)


def test_training_moves_the_new_layers_only():
    model = flamingo(random=False)
    frozen = {name: fingerprint(getattr(model, name)) for name in ("vision", "language")}
    before = {name: value.clone() for name, value in model.named_parameters()}
    ids, images = inputs()

    def loss(model, batch):
        logits = model(*batch).logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), batch[0][:, 1:].flatten())

    history = fit(
        model, lambda step: (ids, images), loss, steps=6, lr=1e-2, device="cpu", progress=False
    )
    assert history.loss[-1] < history.loss[0]
    for name, parameter in model.named_parameters():
        if name.startswith(("vision.", "language.")):
            assert parameter.grad is None and not parameter.requires_grad
        else:
            assert not torch.equal(parameter, before[name]) or name == "resampler.frames", name
    assert {name: fingerprint(getattr(model, name)) for name in frozen} == frozen
    # One frame was shown: the embeddings of the others have no reason to move.
    frames = model.resampler.frames
    assert not torch.equal(frames[0], before["resampler.frames"][0])


def test_frozen_parts_stay_in_evaluation_mode():
    model = flamingo().train()
    assert model.gated[0].training and model.resampler.training
    assert not any(m.training for part in (model.vision, model.language) for m in part.modules())
    ids, images = inputs()
    with torch.no_grad():  # dropout is 0.3 in both frozen parts
        assert torch.equal(model(ids, images).logits, model(ids, images).logits)
    model.language.requires_grad_(True)  # thawed by choice: then it trains as any module
    assert model.train().language.training and not model.vision.training


def test_freeze_and_fingerprint():
    part = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    assert freeze(part) is part
    assert not part.training and not any(p.requires_grad for p in part.parameters())
    seen = fingerprint(part)
    part(torch.randn(5, 3))
    assert fingerprint(part) == seen  # BatchNorm's statistics stood still
    with torch.no_grad():
        part[0].weight[1, 2] = torch.nextafter(part[0].weight[1, 2], torch.tensor(9.0))
    assert fingerprint(part) != seen
    part[0].weight.data[1, 2] = 1.0
    part.train()(torch.randn(5, 3))
    assert fingerprint(part) != seen
    assert fingerprint(nn.Linear(2, 3, bias=False)) != fingerprint(nn.Linear(3, 2, bias=False))


def test_image_mask():
    is_image = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]).bool()
    last = image_mask(is_image, 2)
    assert last.int().tolist() == [
        [[0, 0], [1, 0], [1, 0], [0, 1], [0, 1]],
        [[1, 0], [1, 0], [1, 0], [1, 0], [1, 0]],
    ]
    every = image_mask(is_image, 2, all_previous=True)
    assert every.int().tolist()[0] == [[0, 0], [1, 0], [1, 0], [1, 1], [1, 1]]
    later = image_mask(is_image[:, 2:], 2, images_before=torch.tensor([1, 1]))
    assert torch.equal(later, last[:, 2:])
    assert image_mask(torch.zeros(2, 3).bool(), 0).shape == (2, 3, 0)


def depends(model, ids, images, image):
    """Positions of row 0 whose logits change with an image."""
    other = images.clone()
    other[0, image] += 1.0
    with torch.no_grad():
        change = (model(ids, images).logits - model(ids, other).logits).abs().amax(dim=-1)
    assert change[1].max() == 0
    return (change[0] > 1e-4).tolist()


def test_which_images_matter_to_which_word():
    ids, images = inputs()
    # One layer: what a word gets from an image, it gets by cross-attention alone.
    language = replace(LANGUAGE, num_layers=1)
    no, yes = [False], [True]
    last = flamingo(language=language)
    # The first image's word passes it on by self-attention, so later words depend on it, too; the
    # second image must not reach any word before it.
    assert depends(last, ids, images, 1) == 5 * no + 3 * yes
    assert depends(last, ids, images, 0)[:2] == 2 * no
    assert depends(last, ids, images, 0)[2:5] == 3 * yes
    for previous in (False, True):
        model = flamingo(language=language, all_previous=previous)
        with torch.no_grad(), record_attention(model.gated) as maps:
            model(ids, images)
        (weights,) = (m.weights[0] for m in maps)  # (heads, length, 2 images * 3 latents)
        assert (weights[:, :2] == 0).all()  # before the first image
        assert (weights[:, 2:5, 3:] == 0).all()  # the second image is still to come
        assert (weights[:, 2:5, :3] > 0).all() and (weights[:, 5:, 3:] > 0).all()
        assert (weights[:, 5:, :3] > 0).all() == previous


def test_words_before_the_first_image_get_nothing_from_attention():
    model = flamingo()
    gated, x = model.gated[0], torch.randn(1, 4, 16)
    mask = image_mask(torch.tensor([[0, 0, 1, 0]]).bool(), 2).repeat_interleave(3, dim=-1)[:, None]
    with torch.no_grad():
        seen = gated.attention(gated.norm1(x), torch.randn(1, 6, 12), mask=mask)
    assert (seen[0, :2] == 0).all() and (seen[0, 2:] != 0).any()


def test_filled_up_images_are_not_seen():
    model = flamingo()
    ids, images = inputs()
    ids[1, 2] = 4  # row 1 now has one image token
    assert depends(model, ids.flip(0), images.flip(0), 1) == [False] * 8


@pytest.mark.parametrize("patches", [1, 4, 9])
def test_resampler_takes_any_number_of_patches(patches):
    resampler = randomise(PerceiverResampler(12, 3, 2, 5, max_frames=4))
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(2, 3, patches, 12, generator=generator)
    with torch.no_grad():
        assert resampler(video).shape == resampler(video[:, 0]).shape == (2, 5, 12)
        torch.testing.assert_close(resampler(video[:, 0]), resampler(video[:, :1]))
        still = resampler(video[:, :2].flip(2))  # the order of the patches does not matter
        torch.testing.assert_close(still, resampler(video[:, :2]))
        swapped = resampler(video[:, :2].flip(1))  # the order of the frames does
        assert (swapped - still).abs().max() > 1e-2


def test_videos():
    model = flamingo()
    ids, images = inputs()
    video = images[:, :, None].expand(-1, -1, 3, -1, -1, -1)
    with torch.no_grad():
        out = model(ids, video)
        assert out.image_latents.shape == (2, 2, 3, 12)
        assert torch.equal(model(ids, images[:, :, None]).logits, model(ids, images).logits)
        assert not torch.allclose(out.logits, model(ids, images).logits)


def test_cache_gives_the_same_logits():
    model = flamingo().double()
    ids, images = inputs()
    images = images.double()
    cache, reader = KeyValueCache(5), model.with_images(images)
    with torch.no_grad():
        whole = model(ids, images).logits
        # The second <image> token comes when the first is cached already.
        pieces = [reader(ids[:, a:b], cache=cache).logits for a, b in [(0, 4), (4, 5), (5, 8)]]
    pieces = torch.cat(pieces, dim=1)
    words = [i for i in range(17) if i != IMAGE]
    torch.testing.assert_close(pieces[..., words], whole[..., words], rtol=1e-12, atol=1e-12)
    assert (pieces[..., IMAGE] == -torch.inf).all()


def test_generation():
    model = flamingo(scale=1.0)
    ids, images = inputs()
    with torch.no_grad():
        reader = model.with_images(images)
        with_cache = generate(reader, ids, max_new_tokens=6)
        without = generate(model.with_images(images), ids, max_new_tokens=6, use_cache=False)
        assert torch.equal(with_cache, without)
        assert not (with_cache[:, 8:] == IMAGE).any()
        other = generate(model.with_images(-images), ids, max_new_tokens=6)
    assert not torch.equal(with_cache, other)
    by_hand = ids
    for _ in range(6):
        with torch.no_grad():
            logits = model(by_hand, images).logits[:, -1].clone()
        logits[:, IMAGE] = -torch.inf
        by_hand = torch.cat([by_hand, logits.argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(with_cache, by_hand)


def test_beam_search():
    model = flamingo(scale=1.0)
    ids, images = inputs(rows=1)
    found = [
        beam_search(
            model.with_images(images),
            ids,
            num_beams=3,
            max_new_tokens=5,
            eos_token_id=2,
            use_cache=cached,
        )
        for cached in (True, False)
    ]
    for a, b in zip(*found, strict=True):
        assert torch.equal(a.ids, b.ids) and a.score == pytest.approx(b.score, rel=1e-5)
    assert (
        beam_search(model.with_images(images), ids, num_beams=1, max_new_tokens=4)[0].ids.tolist()
        == generate(model.with_images(images), ids, max_new_tokens=4)[0].tolist()
    )


def test_rows_with_padding_on_the_left():
    model = flamingo().double()
    ids, images = inputs(rows=1)
    images = images.double()
    padded = F.pad(ids, (3, 0), value=0)
    mask = (torch.arange(11) >= 3).long()[None]
    alone = generate(model.with_images(images), ids, max_new_tokens=4)
    beside = generate(model.with_images(images), padded, max_new_tokens=4, attention_mask=mask)
    assert torch.equal(beside[:, 3:], alone)


def test_from_pretrained_parts_copies():
    torch.manual_seed(1)
    vision, language = randomise(ViT(VISION)), randomise(GPT(LANGUAGE))
    model = Flamingo.from_pretrained_parts(
        vision, language, image_token_id=IMAGE, every=2, resampler_heads=2, cross_heads=4
    )
    assert fingerprint(model.language) == fingerprint(language)
    assert fingerprint(model.vision) == fingerprint(vision)
    assert all(p.requires_grad for part in (vision, language) for p in part.parameters())
    assert model.config.every == 2 and model.config.num_layers == 5
    with torch.no_grad():
        language.embedding.weight.zero_()
    assert fingerprint(model.language) != fingerprint(language)


CLIP_VISION = CLIPVisionConfig(
    image_size=8,
    patch_size=4,
    d_model=12,
    num_layers=2,
    num_heads=3,
    d_ff=20,
    stem="convolutions",
)


def test_config_from_a_checkpoint():
    again = FlamingoConfig(**asdict(CONFIG))
    assert again == CONFIG and isinstance(again.vision, ViTConfig)
    with_clip = replace(CONFIG, vision=CLIP_VISION)
    assert FlamingoConfig(**asdict(with_clip)) == with_clip


def test_clips_tower_gives_all_its_tokens():
    tower = randomise(CLIPVisionTower(CLIP_VISION))
    patches = CLIPPatches(CLIP_VISION).eval()
    patches.load_state_dict(tower.state_dict())
    images = inputs()[1][0]
    with torch.no_grad():
        tokens = patches(images)
        assert tokens.shape == (2, 1 + 4, 12)
        torch.testing.assert_close(tokens[:, 0], tower(images))  # CLIP's vector is the first
        other = images.clone()
        other[:, :, :4, :4] += 1
        assert ((patches(other) - tokens).abs().amax(dim=-1) > 1e-4).all()
    assert not patches.layers[-1]._forward_hooks
    with pytest.raises(ValueError, match="9×9, expected 8×8"):
        patches(torch.zeros(1, 3, 9, 9))
    assert not patches.layers[-1]._forward_hooks


def test_flamingo_with_clips_tower():
    torch.manual_seed(2)
    tower = randomise(CLIPVisionTower(CLIP_VISION))
    language = randomise(GPT(LANGUAGE))
    model = Flamingo.from_pretrained_parts(
        tower, language, image_token_id=IMAGE, every=2, resampler_heads=2, cross_heads=4
    )
    assert fingerprint(model.vision) == fingerprint(tower)
    ids, images = inputs()
    with torch.no_grad():
        assert torch.equal(model(ids, images).logits, language.eval()(ids).logits)
    randomise(model.gated)
    assert depends(model, ids, images, 0) == 2 * [False] + 6 * [True]
    assert not any(p.requires_grad for p in model.vision.parameters())


def test_what_does_not_fit():
    model = flamingo()
    ids, images = inputs()
    with pytest.raises(ValueError, match="2 <image> tokens, expected at most one .* the 1 images"):
        model(ids, images[:, :1])
    with pytest.raises(ValueError, match="2 <image> tokens.* 0 images"):
        model(ids)
    with pytest.raises(ValueError, match="pixel_values and image_latents"):
        model(ids, images, image_latents=torch.zeros(2, 2, 3, 12))
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\), expected \(batch, images"):
        model(ids, images[:, 0])
    with pytest.raises(ValueError, match="5 frames, expected at most 4"):
        model(ids, images[:, :, None].expand(-1, -1, 5, -1, -1, -1))
    with pytest.raises(ValueError, match="2 frames, expected at most 1"):
        PerceiverResampler(12, 3, 1, 2)(torch.zeros(1, 2, 4, 12))
    with pytest.raises(TypeError, match=r"torch.int64 \(2, 8\), expected torch.bool"):
        image_mask(ids, 2)
    with pytest.raises(ValueError, match="images for 2 rows and text for 1"):
        model.with_images(images)(ids[:1])
    with pytest.raises(ValueError, match="image_token_id=17, expected 0 to 16"):
        replace(CONFIG, image_token_id=17)
    with pytest.raises(ValueError, match="every=0"):
        replace(CONFIG, every=0)
    with pytest.raises(ValueError, match="norm='batch', expected one of 'layer', 'rms'"):
        GatedCrossAttention(16, 2, 32, 12, norm="batch")
    with pytest.raises(ValueError, match="gate='open'"):
        GatedCrossAttention(16, 2, 32, 12, gate="open")
    with pytest.raises(
        ValueError, match="'swish' is unknown, expected one of relu, .*squared_relu"
    ):
        GatedCrossAttention(16, 2, 32, 12, activation="swish")


def test_sizes_of_flamingo_3b():
    # The paper's table: resampler 6 layers of width 1536, 64 latents; a gated block before each of
    # the 24 layers of width 2048, 1.2 B parameters in all.
    with torch.device("meta"):
        gated = GatedCrossAttention(2048, 16, 4 * 2048, 1536)
    assert 1.1e9 < 24 * sum(p.numel() for p in gated.parameters()) < 1.25e9
