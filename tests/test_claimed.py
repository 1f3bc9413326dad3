"""Claimed numbers beside ours, and the articles' topics."""

from __future__ import annotations

import pytest

from zoo_lessons.claimed import COUNTED, Number, claimed_numbers
from zoo_lessons.claims import CLAIMS, TOPICS
from zoo_lessons.lab.curriculum import LESSONS
from zoo_lessons.records import load_claim, load_record


def number(measured=2.0, spread=None, claimed=(2.0, 2.0), at_least=False):
    return Number("C01", "a thing", claimed, measured, spread, COUNTED, "none", at_least)


def test_each_topic_comes_where_the_articles_first_touch_it_and_each_claim_once():
    listed = [claim for topic in TOPICS for claim in topic.claims]
    assert sorted(listed) == list(CLAIMS)
    firsts = [topic.claims[0] for topic in TOPICS]
    assert firsts == sorted(firsts)


def test_the_topics_lead_to_every_lesson_that_the_articles_grew_into():
    led_to = {number for topic in TOPICS for number in topic.lessons}
    assert led_to == {lesson.number for lesson in LESSONS} - {"00", "24"}


def test_every_number_is_read_from_a_record_and_belongs_to_its_claim():
    found = claimed_numbers()
    assert [each.claim for each in found] == sorted(each.claim for each in found)
    for each in found:
        text = f"{CLAIMS[each.claim].text} {load_claim(each.claim)['ours']}"
        assert load_record(each.record)["figures"], each
        assert each.claimed[0] <= each.claimed[1]
        if each.measured is None:
            assert load_claim(each.claim)["verdict"] == "not measurable here", text
        if each.spread:
            assert each.spread[0] <= each.measured <= each.spread[1], each


def test_a_speed_up_is_the_one_of_the_verdict():
    by_claim = {each.claim: each for each in claimed_numbers()}
    assert f"{by_claim['C26'].measured:.1f} times as fast" in load_claim("C26")["ours"]
    less = next(each for each in claimed_numbers() if each.what.startswith("latency saved"))
    assert f"{less.measured:.0%} less latency" in load_claim("C15")["ours"]


@pytest.mark.parametrize(
    ("given", "within"),
    [
        ({"measured": None}, False),
        ({"measured": 2.03}, True),
        ({"measured": 2.05}, False),
        ({"spread": (1.5, 1.9), "measured": 1.7}, False),
        ({"spread": (1.5, 2.1), "measured": 1.7}, True),
        ({"spread": (3.9, 5.0), "measured": 4.5, "claimed": (3, 4)}, True),
        ({"spread": (2.1, 2.5), "measured": 2.3, "at_least": True}, True),
        ({"spread": (1.9, 2.5), "measured": 2.3, "at_least": True}, False),
    ],
)
def test_within_asks_for_the_spread(given, within):
    assert number(**given).within is within


def test_a_range_has_its_middle_on_a_ratio_scale():
    assert number(measured=6.0, claimed=(2.0, 8.0)).ratio == pytest.approx(1.5)
    assert number(measured=None).ratio is None
