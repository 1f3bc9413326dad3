"""Settings and the command line."""

from __future__ import annotations

import socket

import pytest

from zoo_lessons.deploy.serving import settings as settings_module
from zoo_lessons.deploy.serving.__main__ import arguments, obey
from zoo_lessons.deploy.serving.service import free_port, read_weights
from zoo_lessons.deploy.serving.settings import ServeExtraMissing, Settings, require_extra


def test_by_default_nobody_else_can_reach_it() -> None:
    settings, control = arguments([])
    assert (settings.host, settings.port, control) == ("127.0.0.1", 8000, False)
    assert settings == Settings()


def test_the_command_line_and_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/1")
    given = "--port 0 --replicas digit=3 --window-ms 2.5 --max-batch 4 --no-cache --control"
    settings, control = arguments(given.split())
    assert control and settings.redis_url == "redis://elsewhere:6379/1"
    assert (settings.window_ms, settings.max_batch, settings.cache) == (2.5, 4, False)
    assert settings.replicas == {"digit": 3}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--replicas digit", "model=count"),
        ("--replicas cat=1", "cat"),
        ("--max-batch 0", "batch=0"),
    ],
)
def test_wrong_arguments_are_explained(wrong, said, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments(wrong.split())
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicas": {"cat": 1}}, "cat"),
        ({"replicas": {}}, "no model"),
        ({"replicas": {"digit": 0}}, "at least 1"),
        ({"timeout_s": 0}, "timeout_s=0"),
        ({"window_ms": -1}, "window_ms=-1"),
    ],
)
def test_numbers_out_of_range(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**options)


def test_weights_are_read() -> None:
    assert read_weights("embed=1, digit=2") == {"embed": 1, "digit": 2}


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} .*--port"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", 0) > 0


def test_a_missing_extra_is_one_clear_sentence(monkeypatch) -> None:
    monkeypatch.setattr(settings_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServeExtraMissing, match="make serve"):
        require_extra()


def test_a_failing_command_is_reported_not_raised() -> None:
    class Broken:
        def __getattr__(self, name):
            def fail(**options):
                raise ValueError("no version 'v9'")

            return fail

    assert obey(Broken(), {"do": "promote", "with": {}}) == {"error": "ValueError: no version 'v9'"}
    assert "KeyError" in obey(Broken(), {"do": "explode"})["error"]
