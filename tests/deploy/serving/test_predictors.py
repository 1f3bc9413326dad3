"""The models behind the service: right answers, whatever shares the batch."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import torch

from zoo_lessons.checkpoints import load_trained
from zoo_lessons.datasets.digit_shifts import SHIFTS, shifted
from zoo_lessons.datasets.digits import digits
from zoo_lessons.datasets.shapes import ShapesDataset
from zoo_lessons.deploy.serving.normal import normal_inputs, read_apart
from zoo_lessons.deploy.serving.predictors import load_folder, load_predictor, save_version
from zoo_lessons.retrieval import sentence_embeddings
from zoo_lessons.weights import load_pretrained, load_tokenizer

TEXTS = ["The cat sat on the mat", "No", "A much longer sentence, " * 60]


@pytest.fixture(scope="module")
def reader():
    return load_predictor("digit")


def images(count):
    data = digits("test", new_writers=False)
    return [{"image": image[0].tolist()} for image in data.images[:count]], data.labels[:count]


def test_embeddings_are_those_of_the_library_and_do_not_depend_on_the_batch() -> None:
    embed = load_predictor("embed")
    together = [one.output["embedding"] for one in embed([{"text": text} for text in TEXTS])]
    for text, vector in zip(TEXTS, together, strict=True):
        (alone,) = embed([{"text": text}])
        assert np.allclose(alone.output["embedding"], vector, atol=2e-6)
    expected = sentence_embeddings(
        load_pretrained("minilm"), load_tokenizer("minilm"), TEXTS[:2], max_length=128
    )
    assert np.allclose(together[:2], expected, atol=2e-6)


def test_normal_inputs_are_the_validation_digits() -> None:
    inputs = read_apart()
    assert inputs == normal_inputs()
    expected = digits("validation", new_writers=False).images[:, 0]
    assert torch.equal(torch.tensor([one["image"] for one in inputs]), expected)


def test_digits_are_read_and_shown_to_the_drift_detector(reader) -> None:
    inputs, labels = images(100)
    answers = reader(inputs)
    right = np.mean(
        [one.output["digit"] == label for one, label in zip(answers, labels.tolist(), strict=True)]
    )
    assert right > 0.93
    assert len(answers[0].features) == reader.model.config.d_model
    assert json.dumps([one.output for one in answers])


def test_captions_are_words() -> None:
    caption = load_predictor("caption")
    data = ShapesDataset("test", 3, image_size=48)
    inputs = [{"image": base64.b64encode(data.image(i).tobytes()).decode()} for i in range(3)]
    answers = [one.output["caption"] for one in caption(inputs)]
    assert all(answer.split()[0] in ("a", "an", "the", "there") for answer in answers)
    assert [one.output["caption"] for one in caption(inputs[1:2])] == answers[1:2]


def test_another_version_comes_from_a_folder(reader, tmp_path) -> None:
    model = load_trained("digits_vit")
    with torch.no_grad():
        model.head.bias += torch.eye(10)[7] * 1000
    save_version(model, tmp_path / "v2")
    inputs, _ = images(4)
    answers = load_predictor("digit", str(tmp_path / "v2"))(inputs)
    assert [one.output["digit"] for one in answers] == [7] * 4


def test_a_config_cannot_choose_what_is_imported(tmp_path) -> None:
    about = {"module": "os", "model": "system", "config_class": "system", "config": {}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="'os'"):
        load_folder(str(tmp_path))


def test_an_unknown_model() -> None:
    with pytest.raises(ValueError, match="embed, digit, caption"):
        load_predictor("sing")


@pytest.mark.parametrize("kind", SHIFTS)
def test_shifts_keep_the_range_and_change_the_images(kind) -> None:
    before = digits("test").images[:20]
    after = shifted(before, kind)
    assert after.shape == before.shape and 0 <= after.min() and after.max() <= 1
    assert (after - before).abs().mean() > 0.02
    assert torch.allclose(shifted(before, kind, strength=0.0), before, atol=1e-5)
    assert torch.equal(shifted(before, kind), after)


def test_unknown_shifts() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        shifted(digits("test").images[:2], "blurred")
