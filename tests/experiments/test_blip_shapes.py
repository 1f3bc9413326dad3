"""Lesson 13's training and judging: what is scored, what is learnt, and that seeds repeat it."""

from __future__ import annotations

import pytest
import torch

from experiments import blip_shapes as blip
from experiments.blip_shapes import Pictures
from zoo_lessons.datasets.shapes import SHAPES, canonical_caption, captions
from zoo_lessons.image_text_losses import LOSSES, pretraining_losses
from zoo_lessons.layers.attention import record_attention
from zoo_lessons.models.blip import BlipForConditionalGeneration, BlipForPreTraining


@pytest.fixture(scope="module")
def tokenizer():
    return blip.tokenizer_for_shapes()


@pytest.fixture(scope="module")
def pictures():
    return Pictures("train", 60)


@pytest.fixture(scope="module")
def fresh(tokenizer):
    torch.manual_seed(0)
    return BlipForPreTraining(blip.config(tokenizer)).eval()


def test_no_word_is_unknown(tokenizer):
    for split in ("test", "composition"):
        shown = Pictures(split, 200)
        texts = shown.texts + [
            f"{question.text} {question.answer}" for _, question in blip.ask(shown.scenes, 400)
        ]
        encoded = blip.encode(tokenizer, texts)
        assert not (encoded.input_ids == tokenizer.token_to_id("[UNK]")).any()
        assert encoded.input_ids.shape[1] <= blip.LONGEST


@pytest.mark.parametrize("losses", [("itc",), ("itm",), ("lm",), LOSSES])
def test_a_few_steps_lower_the_chosen_losses(tokenizer, pictures, losses):
    sizes = {"losses": losses, "batch": 8}
    models = [
        blip.pretrain(pictures, pictures.texts, tokenizer, steps=steps, **sizes)[0]
        for steps in (1, 12, 12)
    ]
    encoded = blip.encode(tokenizer, pictures.texts[:16])
    with torch.no_grad():
        before, after, again = (
            pretraining_losses(
                model,
                pictures.pixel_values(range(16)),
                *encoded,
                generator=torch.Generator().manual_seed(0),
            )
            for model in models
        )
    if "lm" in losses:
        assert after.lm < before.lm - 0.5
    assert after == again  # the same seed gives the same model


def test_momentum_teaches(tokenizer, pictures):
    sizes = {"steps": 4, "batch": 8}
    plain, taught = (
        blip.pretrain(pictures, pictures.texts, tokenizer, momentum=momentum, **sizes)[1].loss
        for momentum in (None, 0.9)
    )
    assert list(plain) != list(taught)


def test_exact_match_takes_any_wording(pictures):
    scenes = pictures.scenes
    last = [captions(scene)[-1].english for scene in scenes]
    assert all(blip.exact(last, scenes)) and all(blip.exact(pictures.texts, scenes))
    assert not any(blip.exact([text + " red" for text in last], scenes))
    moved = blip.exact(pictures.texts[1:] + pictures.texts[:1], scenes)
    assert sum(moved) < 5


def test_which_words_are_right():
    scenes = Pictures("train", 200).scenes
    scene = next(each for each in scenes if len(each.objects) == 2)
    first, second = scene.objects
    truth = canonical_caption(scene).english
    perfect = {"colour": 1.0, "shape": 1.0, "size": 1.0, "place or relation": 1.0}
    assert blip.words_right([truth], [scene]) == perfect
    other = next(shape for shape in SHAPES if shape not in (first.shape, second.shape))
    wrong = truth.replace(second.shape, other)
    assert blip.words_right([truth, wrong], [scene] * 2) == {**perfect, "shape": 0.5}
    # "a" turns into "an" with the colour: that is one mistake, not two.
    wrong = truth.replace(f"{first.size} {first.color}", "large orange")
    assert blip.words_right([wrong], [scene])["place or relation"] == 1.0
    lost = blip.words_right([" ".join(truth.split()[:3])], [scene])
    assert lost["place or relation"] == lost["shape"] == 0.0


def test_written_captions_have_no_special_tokens(fresh, tokenizer, pictures):
    texts = blip.write_captions(fresh, tokenizer, pictures.pixel_values(range(5)), at_once=2)
    assert len(texts) == 5 and not any("[" in text for text in texts)


def test_row_t_of_cross_attention_wrote_word_t_plus_1(fresh, pictures):
    """What the caption explorer takes for granted."""
    captioner = BlipForConditionalGeneration.from_pretraining(fresh)
    image = pictures.pixel_values([3])
    ids = captioner.generate(image, max_new_tokens=6)[:, :7]
    with torch.no_grad(), record_attention(captioner.text_decoder) as maps:
        logits = captioner(image, ids[:, :-1]).logits
    assert torch.equal(logits.argmax(dim=-1), ids[:, 1:])
    rows = maps.stack("cross_attention")[:, 0]  # (layers, heads, words, keys)
    assert rows.shape == (2, 4, ids.shape[1] - 1, 1 + 36)
    changed = ids[:, :-1].clone()
    changed[0, 3] = (changed[0, 3] + 1) % 20 + 4
    with torch.no_grad(), record_attention(captioner.text_decoder) as maps:
        captioner(image, changed)
    others = maps.stack("cross_attention")[:, 0]
    torch.testing.assert_close(others[:, :, :3], rows[:, :, :3])  # read before the change
    assert (others[:, :, 3] - rows[:, :, 3]).abs().max() > 1e-6


def test_reading_closely_reorders_only_the_best(fresh, tokenizer, pictures):
    encoded = blip.encode(tokenizer, pictures.texts[:20])
    images = pictures.pixel_values(range(4))
    scores = blip.cosines(fresh, images, encoded)
    assert scores.shape == (4, 20) and scores.abs().max() <= 1 + 1e-5
    found = blip.reranked(fresh, images, encoded, scores, k=6)
    for row in range(4):
        best = scores[row].argsort(descending=True)
        order = found[row].argsort(descending=True)
        assert set(order[:6].tolist()) == set(best[:6].tolist())
        assert torch.equal(order[6:], best[6:])
        alone = blip.match_scores(
            fresh,
            images[row].expand(6, -1, -1, -1),
            type(encoded)(encoded.input_ids[best[:6]], encoded.attention_mask[best[:6]]),
        )
        assert torch.equal(order[:6], best[:6][alone.argsort(descending=True)])


def test_retrieval_counts_equal_captions_as_one(fresh, tokenizer):
    twice = Pictures("test", 12)
    twice.images = twice.images[[0, 0, 1, 1]]
    twice.texts = [twice.texts[i] for i in (0, 0, 1, 1)]
    found = blip.retrieval(fresh, tokenizer, twice)
    assert set(found) == {"ITC", "among the best", "ITC, then ITM"}
    assert found["among the best"] == 1.0


def test_questions_of_all_kinds(pictures):
    asked = blip.ask(pictures.scenes, 80)
    assert asked == blip.ask(pictures.scenes, 80) != blip.ask(pictures.scenes, 80, seed=1)
    assert {question.kind for _, question in asked} == set(blip.LEVELS)
    assert len(asked) == 80
    perfect = [question.answer for _, question in asked]
    found = blip.answered(asked, perfect, asked)
    assert set(found) == {"easy", "medium", "hard"}
    assert all(level["right"] == 1.0 for level in found.values())
    assert all(0 < level["most frequent answer"] < 1 for level in found.values())
    none = blip.answered(asked, ["" for _ in asked], asked)
    assert all(level["right"] == 0.0 for level in none.values())


def test_learns_to_answer(fresh, tokenizer, pictures):
    asked = blip.ask(pictures.scenes, 40)
    answerer = blip.teach_answers(fresh, pictures, asked, tokenizer, steps=3, batch=8)
    given = blip.answers(answerer, pictures, asked, tokenizer)
    assert len(given) == 40
    again = blip.teach_answers(fresh, pictures, asked, tokenizer, steps=3, batch=8)
    assert blip.answers(again, pictures, asked, tokenizer) == given
    assert not torch.equal(
        answerer.text_encoder.embeddings.word.weight, fresh.text_encoder.embeddings.word.weight
    )
