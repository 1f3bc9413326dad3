"""The episodes' judge is right, and the pieces of the experiment fit together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from experiments.flamingo_episodes import (
    SHOTS,
    Judge,
    eyes,
    features,
    picture_rows,
    probe,
    prose_choice,
    require,
    resample,
    shape_labels,
    shuffle_shots,
    shut_gates,
    some_names,
    summary,
    token_ids,
    train_flamingo,
    train_language,
    unbound,
)
from zoo_lessons.checkpoints import load_trained
from zoo_lessons.datasets.episodes import IMAGE_TOKEN, Episodes, episode_tokenizer
from zoo_lessons.datasets.shapes import SHAPES
from zoo_lessons.models.flamingo import fingerprint

TOKENIZER = episode_tokenizer()
IMAGE = TOKENIZER.token_to_id(IMAGE_TOKEN)
SHOWN = Episodes("train", 12, num_pictures=150)
TEST = Judge("test", TOKENIZER, 20, 150)
VOCABULARY = TOKENIZER.get_vocab_size()


def ids(*, images):
    return token_ids(TOKENIZER, [episode.text(images=images) for episode in SHOWN])


@pytest.fixture(scope="module")
def parts():
    names = ids(images=False)
    return eyes(load_trained("clip_shapes").vision), train_language(names, names, VOCABULARY, 2)


def test_unbound_texts_keep_everything_but_the_order_of_the_words():
    texts = [episode.text(images=False) for episode in SHOWN]
    changed = unbound(texts)
    assert changed == unbound(texts) != texts
    for before, after in zip(texts, changed, strict=True):
        a, b = before.split(), after.split()
        assert a[::2] == b[::2] and sorted(a[1::2]) == sorted(b[1::2])


def test_shape_labels():
    for label, scene in zip(shape_labels(SHOWN.pictures), SHOWN.pictures.scenes, strict=True):
        assert SHAPES[label] == scene.objects[0].shape


def test_some_names():
    rows, shown, named = picture_rows(SHOWN), ids(images=True), ids(images=False)
    some, mixed = some_names(rows, shown, named, torch.Generator().manual_seed(0))
    assert torch.equal(mixed[:, ::2], named[:, ::2])  # [BOS] and the words
    is_image = mixed[:, 1::2] == IMAGE
    assert 0.3 < is_image.float().mean() < 0.7
    assert torch.equal(torch.where(is_image, named[:, 1::2], mixed[:, 1::2]), named[:, 1::2])
    for row, chosen, kept in zip(rows, some, is_image, strict=True):
        assert chosen[: kept.sum()].tolist() == row[kept].tolist()
        assert sorted(chosen.tolist()) == sorted(row.tolist())


def test_shuffled_shots_keep_the_query():
    rows = picture_rows(SHOWN)
    shuffled = shuffle_shots(rows)
    assert torch.equal(shuffled[:, -1], rows[:, -1]) and not torch.equal(shuffled, rows)
    assert torch.equal(shuffled.sort(dim=1).values, rows.sort(dim=1).values)


def test_judge_counts_right_words():
    for shots in SHOTS:
        episodes = TEST.episodes[shots]
        answers = [TOKENIZER.token_to_id(e.query.word) for e in episodes]
        found = TEST.right(shots, F.one_hot(torch.tensor(answers), VOCABULARY).float())
        assert found["all"] == 1.0
        first = [TOKENIZER.token_to_id(e.shots[0].word) if e.shots else 0 for e in episodes]
        found = TEST.right(shots, F.one_hot(torch.tensor(first), VOCABULARY).float())
        hits = [a == b for a, b in zip(answers, first, strict=True)]
        assert found["all"] == pytest.approx(sum(hits) / 20)
        if shots == 0:
            assert "answerable" not in found
        if shots == 1:
            assert found["answerable"] == 1.0


def test_judge_reads_the_word_after_the_prompt():
    """A reader that looks names up in the prompt is right wherever it can be."""

    def look_up(prompts):
        logits = torch.zeros(*prompts.shape, VOCABULARY)
        for row, prompt in enumerate(prompts.tolist()):
            told = dict(zip(prompt[1:-1:2], prompt[2::2], strict=True))
            logits[row, -1, told.get(prompt[-1], 0)] = 1
        return SimpleNamespace(logits=logits)

    found = TEST.judge_text(look_up)
    for shots, episodes in TEST.episodes.items():
        answerable = sum(e.answerable for e in episodes)
        assert found[shots]["all"] == pytest.approx(answerable / 20)
        assert found[shots].get("answerable", 1.0) == 1.0


def test_flamingo_is_trained_on_encoded_pictures(parts):
    vision, language = parts
    seen, rows = features(vision, SHOWN.pictures), picture_rows(SHOWN)
    before = [fingerprint(part) for part in parts]
    model, history = train_flamingo(
        vision, language, IMAGE, seen, rows, ids(images=True), ids(images=False), 0, 4
    )
    assert len(history) == 4
    assert [fingerprint(model.vision), fingerprint(model.language)] == before
    with torch.no_grad():
        fast = resample(model, seen[rows[:2]])
        slow = model.encode_images(torch.stack([SHOWN.pixel_values(SHOWN[i]) for i in (0, 1)]))
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)

    seen_test = features(vision, TEST.pictures)
    assert not TEST.same_as_language(model, seen_test)
    shut = shut_gates(model)
    assert TEST.same_as_language(shut, seen_test)
    assert TEST.judge_images(shut, seen_test) == TEST.judge_text(language, images=True)
    found = TEST.judge_images(model, seen_test)
    assert list(found) == list(SHOTS)
    assert list(summary([found, found])) == [str(shots) for shots in SHOTS]
    assert summary([found, found])["2"]["all"] == pytest.approx(3 * [found[2]["all"]])


def test_probe_reads_what_is_there():
    labels = shape_labels(SHOWN.pictures)
    told = F.one_hot(torch.from_numpy(labels), 8).float() + 0.01 * torch.randn(150, 8)
    nothing = torch.zeros(150, 8)
    found = probe((told, labels), {"told": (told, labels), "nothing": (nothing, labels)})
    assert found["told"] == 1.0 and found["nothing"] < 0.4


def test_prose_is_asked_for_one_of_the_words_shown():
    episodes = [episode for episode in TEST.episodes[2] if episode.answerable][:2]
    found = prose_choice(episodes)
    assert found["episodes"] == 2 and found["right"] in (0.0, 0.5, 1.0)
    assert found["chance"] in (0.5, 0.75, 1.0)


def test_a_part_that_cannot_do_its_work_stops_the_run():
    require("sight", 0.6, 0.6)
    with pytest.raises(RuntimeError, match="sight is 0.590, expected at least 0.6"):
        require("sight", 0.59, 0.6)
