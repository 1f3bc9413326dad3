"""The service in one process: real router, our files, drift and canaries."""

from __future__ import annotations

import pytest
import torch

from zoo_lessons.datasets.digit_shifts import shifted
from zoo_lessons.datasets.digits import Digits, digits
from zoo_lessons.deploy.local_service import LocalService
from zoo_lessons.deploy.reading_machine import prepared


class File:
    """Stands in for an ONNX file: logits that say `answer`, from the digits' own mean pixels."""

    def __init__(self, answer=None):
        self.answer, self.calls = answer, 0

    def __call__(self, pixel_values):
        self.calls += 1
        rows = pixel_values.flatten(2).mean(-1).repeat(1, 10)  # (n, 10)
        if self.answer is not None:
            rows[:, self.answer] = 50.0
        return {"logits": rows}


@pytest.fixture
def letters() -> Digits:
    return digits("test")


def made(letters, file=None, **settings) -> LocalService:
    return LocalService(file or File(3), letters.images[:200], **settings)


def test_answers_are_counted_as_right_or_wrong(letters):
    service = made(letters, drift_window=0)
    some = Digits(letters.images[:50], letters.labels[:50])
    assert service.send(some) == ["v1"] * 50
    wrong = (some.labels != 3).sum().item()
    assert service.outcomes == {"v1": (wrong, 50)}
    service.send(some, feedback=False)
    assert service.outcomes == {"v1": (wrong, 50)}


def test_the_monitor_rings_for_changed_digits_only(letters):
    service = made(letters, drift_window=60)
    same = letters.images[torch.arange(180) % 200]
    service.send(Digits(same, letters.labels[:180]))
    assert service.events == []
    service.send(Digits(shifted(same, "inverted"), letters.labels[:180]))
    assert [event.split(":")[0] for event in service.events] == ["drift"]


def test_a_bad_canary_is_sent_home_and_users_stay_with_their_version(letters):
    threes = Digits(letters.images[:120], torch.full((120,), 3))
    service = made(letters, drift_window=0, judge_after=20)
    service.add("v2", File(7), share=0.5)
    met = service.send(threes, users=60)
    home = met.index("v1", max(i for i, version in enumerate(met) if version == "v2"))
    assert "v2" in met and set(met[home:]) == {"v1"}
    assert service.events[-1].startswith("rollback: digit-v2")
    assert set(service.outcomes) == {"v1"}
    stays = [(one, other) for one, other in zip(met[:20], met[60:80], strict=True)]
    assert all(other == "v1" or one == other for one, other in stays)


def test_another_versions_logits_are_not_shown_to_the_monitor(letters):
    service = made(letters, drift_window=40)
    service.add("v2", File(9), share=1.0)
    assert set(service.send(Digits(letters.images[:100], letters.labels[:100]))) == {"v2"}
    assert service.router.drift.reports == []


def test_files_get_pixels_from_minus_one_to_one(letters):
    seen = []

    def file(pixel_values):
        seen.append(pixel_values)
        return {"logits": torch.zeros(len(pixel_values), 10)}

    service = made(letters, file, drift_window=0)
    service.send(Digits(letters.images[:1], letters.labels[:1]))
    torch.testing.assert_close(seen[-1], prepared(letters.images[:1]))
