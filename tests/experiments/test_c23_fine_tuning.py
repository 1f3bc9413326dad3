import copy

import pytest

from experiments.c23_fine_tuning import judge, parts_of_claim, streams
from zoo_lessons.models import BertConfig, BertForQuestionAnswering

TOPICS = {
    "per_topic": [4, 16],
    "sweep_per_topic": 16,
    "accuracy": {"random, frozen": [[0.9, 0.3], [0.9, 0.35]]},
    "fine_tuned_cls": [0.6, 0.55],
}
TAGGING = {
    "f1": {"MiniLM + LSTM": {"20": {"CRF": {"test": [0.1]}}, "400": {"CRF": {"test": [0.8, 0.7]}}}},
    "baselines": {"rule": {"test": 0.5}, "most frequent tag": {"test": 0.2}},
}
READING = {
    "methods": {
        "fine-tuned": [
            {"validation": {"exact_match": 0.8}, "test": {"exact_match": 0.3}},
            {"validation": {"exact_match": 0.7}, "test": {"exact_match": 0.2}},
        ],
        "lexical": [{"validation": {"exact_match": 0.5}, "test": {"exact_match": 0.4}}],
    }
}
ONE_STREAM = {"attentions_per_layer": 1.0, "sees_its_own_word": True}


def parts(**changes):
    found = parts_of_claim(*map(copy.deepcopy, (TOPICS, TAGGING, READING)))
    for name, works in changes.items():
        found[{"cls": "[CLS]", "crf": "CRF", "span": "start and end"}[name]]["works"] = works
    return found


def test_all_parts_are_compared_with_the_right_figures():
    found = parts()
    assert found["[CLS]"]["than"] == [0.3, 0.35]
    assert found["CRF"]["ours"] == [0.8, 0.7] and found["CRF"]["than"] == [0.5, 0.5]
    assert found["start and end"]["than"] == [0.5, 0.5]
    assert found["start and end, new wordings"]["ours"] == [0.3, 0.2]
    assert found["start and end, new wordings"]["than"] == [0.4, 0.4]
    failed = [name for name, part in found.items() if not part["works"]]
    assert failed == ["start and end, new wordings"]


def test_one_seed_that_fails_is_enough():
    topics = {**TOPICS, "fine_tuned_cls": [0.6, 0.45]}
    assert not parts_of_claim(topics, TAGGING, READING)["[CLS]"]["works"]


@pytest.mark.parametrize(
    ("changes", "model", "verdict"),
    [
        ({}, ONE_STREAM, "partly"),
        ({"cls": False}, ONE_STREAM, "the article is wrong"),
        ({"crf": False}, ONE_STREAM, "the article is wrong"),
        ({"span": False}, ONE_STREAM, "not measurable here"),
        ({}, {**ONE_STREAM, "attentions_per_layer": 2.0}, "not measurable here"),
        ({}, {**ONE_STREAM, "sees_its_own_word": False}, "not measurable here"),
    ],
)
def test_verdicts(changes, model, verdict):
    found = judge(parts(**changes), model)
    assert found.verdict == verdict
    assert "in new wordings our model reaches an exact match of 0.25" in found.explanation


def test_bert_has_one_stream():
    config = BertConfig(d_model=16, num_layers=2, num_heads=2, d_ff=32)
    assert streams(BertForQuestionAnswering(config).eval()) == ONE_STREAM
