"""`python -m zoo_lessons.deploy.serving`: start the service, and stop it with Ctrl-C."""

from __future__ import annotations

import argparse
import json
import select
import signal
import sys
from collections.abc import Sequence
from typing import Any

from zoo_lessons.deploy.serving.service import (
    Service,
    environment_settings,
    is_loopback,
    read_weights,
)
from zoo_lessons.deploy.serving.settings import ServeExtraMissing, Settings

IDLE_S = 1.0


def arguments(given: Sequence[str] | None = None) -> tuple[Settings, bool]:
    """Settings, and whether a parent process gives commands."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo_lessons.deploy.serving", description=__doc__
    )
    defaults = Settings()
    parser.add_argument("--host", default=defaults.host, help="default: %(default)s, this machine")
    parser.add_argument("--port", type=int, default=defaults.port, help="0 takes a free one")
    parser.add_argument(
        "--replicas",
        default=",".join(f"{name}={count}" for name, count in defaults.replicas.items()),
        metavar="MODEL=N,...",
        help="copies of each model, default: %(default)s",
    )
    for name in (
        "max_batch", "window_ms", "max_in_flight", "timeout_s", "judge_after", "drift_window"
    ):  # fmt: skip
        value = getattr(defaults, name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), default=value, help="default: %(default)s")
    parser.add_argument("--no-cache", dest="cache", action="store_false", help="no Redis at all")
    parser.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    options = vars(parser.parse_args(given))
    control = options.pop("control")
    try:
        options["replicas"] = read_weights(options["replicas"])
        return environment_settings(options), control
    except ValueError as error:
        parser.error(str(error))


def main(given: Sequence[str] | None = None) -> int:
    """Run until interrupted, or until the parent closes our standard input."""
    settings, control = arguments(given)
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: everything is taken down
    try:
        with Service(settings) as service:
            _say({"url": service.url} if control else f"The service answers at {service.url}")
            if not control:
                print("Try:  curl -s " + service.url + "/health", flush=True)
                if not is_loopback(settings.host):
                    print("Other machines can reach it, and it asks for no password.", flush=True)
            _serve(service, control)
    except KeyboardInterrupt:
        pass
    except (ServeExtraMissing, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _serve(service: Service, control: bool) -> None:
    """Take rolled-back versions down, and obey the parent, line by line."""
    while True:
        watched = [sys.stdin] if control else []
        ready, _, _ = select.select(watched, [], [], IDLE_S)
        if ready:
            line = sys.stdin.readline()
            if not line:
                return  # the parent is gone
            _say(obey(service, json.loads(line)))
        else:
            service.tidy()


def obey(service: Service, command: dict[str, Any]) -> dict[str, Any]:
    """Do what {"do": name, "with": arguments} says. Returns {"done": ...} or {"error": ...}."""
    known = {
        "status": service.status,
        "deploy": service.deploy,
        "promote": service.promote,
        "withdraw": service.withdraw,
        "tidy": service.tidy,
        "configure": service.configure,
        "kill_replica": service.kill_replica,
        "pids": service.pids,
        "start_cache": service.start_cache,
        "stop_cache": service.stop_cache,
    }
    try:
        return {"done": known[command["do"]](**command.get("with", {}))}
    except Exception as error:  # whatever it is, the parent must hear of it, and the service lives
        return {"error": f"{type(error).__name__}: {error}"}


def _say(message: dict[str, Any] | str) -> None:
    print(message if isinstance(message, str) else json.dumps(message), flush=True)


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
