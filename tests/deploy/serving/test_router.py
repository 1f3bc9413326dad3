"""The router with replicas made of Python functions: no Ray, no network."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("prometheus_client")

from tests.deploy.serving.coroutines import wait_for
from zoo_lessons.deploy.serving.cache import PredictionCache
from zoo_lessons.deploy.serving.metrics import Reading
from zoo_lessons.deploy.serving.router import ModelFailed, ReplicaLost, ReplicasBusy, Router
from zoo_lessons.deploy.serving.schemas import RequestError
from zoo_lessons.deploy.serving.settings import Settings

BLANK = [[0.0] * 8] * 8


class FakeReplicas:
    """Answers with the version; `faults` are raised first, one per call."""

    def __init__(self):
        self.faults, self.calls, self.delay, self.features = [], [], 0.0, None

    async def predict(self, model, version, value):
        self.calls.append((model, version))
        await asyncio.sleep(self.delay)
        if self.faults:
            fault = self.faults.pop(0)
            if fault is not None:
                raise fault
        return {"output": {"digit": version}, "features": self.features, "batch": 1}

    async def reference(self, model, version):
        return [[i / 50] for i in range(50)]


class DictRedis:
    def __init__(self):
        self.values = {}

    async def get(self, key):
        return self.values.get(key)

    async def set(self, key, value, ex):
        self.values[key] = value
        return True


def made(cache=False, **settings) -> tuple[Router, FakeReplicas]:
    replicas = FakeReplicas()
    kept = PredictionCache(DictRedis() if cache else None)
    router = Router(Settings(replicas={"digit": 1}, **settings), replicas, kept)
    wait_for(router.set_weights("digit", {"v1": 1.0}, "v1"))
    return router, replicas


async def chunks(body: bytes):
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


async def ask(router, user=None, image=BLANK, kind="application/json", **more):
    body = {"type": "digit", "image": image, **more}
    if user is not None:
        body["user"] = user
    return await router.predict(kind, chunks(json.dumps(body).encode()))


def status_of(router, **options) -> tuple[int, RequestError | None]:
    try:
        wait_for(ask(router, **options))
    except RequestError as error:
        return error.status, error
    return 200, None


def total(router, name, **labels) -> float:
    return Reading.parse(router.metrics_text()).total(name, **labels)


def test_an_answer_says_who_gave_it_and_is_counted() -> None:
    router, _ = made()
    answer = wait_for(ask(router))
    assert answer["output"] == {"digit": "v1"}
    assert (answer["version"], answer["cached"]) == ("v1", False)
    assert total(router, "zoo_requests_total", model="digit", version="v1", status="200") == 1
    assert total(router, "zoo_latency_seconds_count", model="digit") == 1


def test_the_second_time_the_cache_answers_but_not_for_another_version() -> None:
    router, replicas = made(cache=True)
    assert not wait_for(ask(router))["cached"]
    assert wait_for(ask(router, user="somebody else"))["cached"]
    wait_for(router.set_weights("digit", {"v2": 1.0}, "v2"))
    answer = wait_for(ask(router))
    assert (answer["cached"], answer["output"]) == (False, {"digit": "v2"})
    assert replicas.calls == [("digit", "v1"), ("digit", "v2")]
    assert total(router, "zoo_cache_total", result="hit") == 1


def test_a_lost_replica_is_replaced_by_another_one() -> None:
    router, replicas = made(retries=2)
    replicas.faults = [ReplicaLost("killed"), ReplicaLost("killed")]
    assert status_of(router)[0] == 200
    assert total(router, "zoo_retries_total") == 2


def test_retries_end() -> None:
    router, replicas = made(retries=2)
    replicas.faults = [ReplicaLost("killed")] * 10
    status, error = status_of(router)
    assert (status, error.code, error.retry_after) == (503, "no_replica", 1)
    assert len(replicas.calls) == 3


def test_what_the_model_cannot_do_is_not_tried_again() -> None:
    router, replicas = made()
    replicas.faults = [ModelFailed("ZeroDivisionError")]
    status, error = status_of(router)
    assert (status, error.code) == (500, "model_failed") and "ZeroDivisionError" in str(error)
    assert len(replicas.calls) == 1


def test_busy_replicas_send_users_away_with_a_time_to_come_back() -> None:
    router, replicas = made()
    replicas.faults = [ReplicasBusy("full")]
    status, error = status_of(router)
    assert (status, error.code, error.retry_after) == (503, "overloaded", 1)


def test_too_many_at_a_time_are_refused_at_once_and_room_is_given_back() -> None:
    router, replicas = made(max_in_flight=3)
    replicas.delay = 0.05

    async def crowd():
        return await asyncio.gather(*(ask(router) for _ in range(8)), return_exceptions=True)

    answers = wait_for(crowd())
    refused = [one for one in answers if isinstance(one, RequestError)]
    assert len(refused) == 5 and {one.status for one in refused} == {503}
    assert router.in_flight["digit"] == 0
    assert status_of(router)[0] == 200


def test_a_slow_model_is_given_up() -> None:
    router, replicas = made(timeout_s=0.02)
    replicas.delay = 1.0
    assert status_of(router)[0] == 504
    assert router.in_flight["digit"] == 0


def test_a_long_body_is_refused_before_it_is_read_to_the_end() -> None:
    router, _ = made(max_body_bytes=500)
    taken = 0

    async def endless():
        nonlocal taken
        while True:
            taken += 100
            yield b" " * 100

    with pytest.raises(RequestError, match="more than 500 bytes") as caught:
        wait_for(router.predict("application/json", endless()))
    assert caught.value.status == 413 and taken <= 600


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"kind": "text/plain"}, 415, "not_json"),
        ({"image": [[0.0]]}, 422, "invalid_request"),
        ({"colour": "red"}, 422, "invalid_request"),
    ],
)
def test_wrong_requests_reach_no_model(options, status, code) -> None:
    router, replicas = made()
    found, error = status_of(router, **options)
    assert (found, error.code) == (status, code)
    assert replicas.calls == []
    assert total(router, "zoo_requests_total", status=str(status)) == 1


def test_a_model_that_is_not_served() -> None:
    router, _ = made()
    body = json.dumps({"type": "embed", "text": "a"}).encode()
    with pytest.raises(RequestError, match="'embed', only digit") as caught:
        wait_for(router.predict("application/json", chunks(body)))
    assert caught.value.status == 404


async def feedback(router, answer, label):
    body = json.dumps({"id": answer["id"], "label": label}).encode()
    return await router.feedback("application/json", chunks(body))


def test_a_bad_canary_is_rolled_back_by_what_users_say() -> None:
    router, _ = made(judge_after=10)

    async def run():
        await router.set_weights("digit", {"v1": 0.7, "v2": 0.3}, "v1")
        for i in range(200):
            answer = await ask(router, user=f"user-{i}")
            await feedback(router, answer, "v1")  # v2 is always wrong
        return await router.status()

    status = wait_for(run())
    assert status["weights"]["digit"] == {"v1": 1.0}
    assert [event["kind"] for event in status["events"]] == ["rollback"]
    assert 10 <= status["outcomes"]["digit-v2"]["wrong"] < 30
    assert total(router, "zoo_rollbacks_total") == 1
    assert json.dumps(status)


def test_a_crashing_canary_is_rolled_back_without_feedback() -> None:
    router, replicas = made(judge_after=10)

    async def run():
        for i in range(100):
            await ask(router, user=f"user-{i}")
        await router.set_weights("digit", {"v1": 0.5, "v2": 0.5}, "v1")
        for i in range(100):
            version_fails = router.weights["digit"].get("v2", 0) > 0
            replicas.faults = []
            calls = len(replicas.calls)
            original = replicas.predict

            async def predict(model, version, value, original=original):
                if version == "v2":
                    raise ModelFailed("broken")
                return await original(model, version, value)

            replicas.predict = predict
            try:
                await ask(router, user=f"user-{i}")
            except RequestError:
                assert version_fails
            replicas.predict = original
            assert len(replicas.calls) >= calls
        return router.weights["digit"]

    assert wait_for(run()) == {"v1": 1.0}


def test_feedback_counts_once_and_for_known_answers_only() -> None:
    router, _ = made()

    async def run():
        answer = await ask(router)
        assert await feedback(router, answer, "v1") == {"right": True}
        with pytest.raises(RequestError, match="remembered"):
            await feedback(router, answer, "v1")

    wait_for(run())
    assert router.outcomes["digit", "v1"].right == 1


def test_feedback_does_not_take_a_probability_for_a_digit() -> None:
    router, _ = made()

    async def run():
        answer = await ask(router)
        router.answers[answer["id"]] = ("digit", "v1", {"digit": 7, "probability": 1.0})
        return await feedback(router, answer, 1)

    assert wait_for(run()) == {"right": False}


def test_drift_raises_an_alarm_once_and_shows_in_the_metrics() -> None:
    router, replicas = made(drift_window=40)

    async def run(value, count):
        for i in range(count):
            replicas.features = [value(i)]
            await ask(router)

    wait_for(run(lambda i: (i * 37 % 50) / 50, 80))
    assert total(router, "zoo_drift_alarm") == 0
    wait_for(run(lambda i: 5.0 + i, 160))
    assert total(router, "zoo_drift_alarm") == 1
    assert total(router, "zoo_drift_windows_total", result="drifted") == 4
    assert [event["kind"] for event in router.events] == ["drift"]


def test_health_says_what_is_served() -> None:
    router = Router(Settings(), FakeReplicas(), PredictionCache(None))
    assert router.health()["status"] == "starting"
    router, _ = made(cache=True)
    assert router.health() == {"status": "ok", "models": {"digit": {"v1": 1.0}}, "cache": "up"}


def test_a_crowd_sends_no_canary_home() -> None:
    router, replicas = made(judge_after=10)
    answers = replicas.predict

    async def predict(model, version, value):
        if version == "v2":  # its few replicas are full; what it answers is as good as ever
            raise ReplicasBusy("full")
        return await answers(model, version, value)

    async def run():
        await router.set_weights("digit", {"v1": 0.5, "v2": 0.5}, "v1")
        replicas.predict = predict
        told = [
            await asyncio.gather(ask(router, user=f"user-{i}"), return_exceptions=True)
            for i in range(100)
        ]
        return [one for (one,) in told if isinstance(one, RequestError)]

    refused = wait_for(run())
    assert len(refused) > 30 and {error.code for error in refused} == {"overloaded"}
    assert router.weights["digit"] == {"v1": 0.5, "v2": 0.5}
    assert router.outcomes["digit", "v2"].errors == 0 and router.events == []


def test_a_canary_neither_looks_like_drift_nor_makes_the_detector_forget() -> None:
    router, replicas = made(drift_window=40)
    monitor = router.drift

    async def predict(model, version, value):
        features = [0.5] if version == "v1" else [5.0]  # another model sees the same otherwise
        return {"output": {"digit": version}, "features": features, "batch": 1}

    async def run():
        replicas.predict = predict
        for i in range(20):
            await ask(router, user=f"user-{i}")
        await router.set_weights("digit", {"v1": 0.5, "v2": 0.5}, "v1")
        for i in range(30):
            await ask(router, user=f"user-{i}")

    wait_for(run())
    seen = [row for row in monitor._waiting]
    assert router.drift is monitor and 20 < len(seen) < 50
    assert {row[0] for row in seen} == {0.5}
    wait_for(router.set_weights("digit", {"v2": 1.0}, "v2"))
    assert router.drift is not monitor  # the stable version is another one: so is the reference


def test_a_model_that_is_withdrawn() -> None:
    router, _ = made()
    answer = wait_for(ask(router))
    wait_for(router.withdraw("digit"))
    status, error = status_of(router)
    assert (status, error.code) == (404, "no_such_model")
    assert router.drift is None and router.health()["status"] == "starting"
    assert wait_for(feedback(router, answer, "v1")) == {"right": True}  # late, and harmless
    with pytest.raises(ValueError, match="'digit' is not served"):
        wait_for(router.withdraw("digit"))


def test_a_model_that_is_withdrawn_while_it_computes() -> None:
    router, replicas = made()
    replicas.delay, replicas.features = 0.05, [0.5]

    async def run():
        asked = asyncio.create_task(ask(router))
        await asyncio.sleep(0.01)
        await router.withdraw("digit")
        return await asked

    assert wait_for(run())["output"] == {"digit": "v1"}
