"""C28: load balancer, router, replicas and cache, under load and through each fault.

One service with two replicas of the digit reader, one captioner and a cache. Users are an open loop
in another process: 25 digits per second for eight seconds, whose right output is known. They are
drawn from all 1,797; alike where a replica is killed, so that the cache is no help, and with a
popularity like Zipf's in the other cases. At the third second

- nothing happens,
- a replica is killed (SIGKILL, as for want of memory),
- Redis is stopped, and started again two and a half seconds later.

Last, an overload: 150 captions per second for three seconds, each of another picture, which is more
than the captioner can write. The service may have 32 of them under way.

"back" is the time from the kill until two replicas answer again, and from Redis' new start until
the first answer from the cache.

**C28 is reproduced** if no answer is wrong in any of the four, at most 2 % of the requests fail
when a replica dies and when Redis does, the replica is back within 30 seconds, the cache answers
again, and under overload the service goes on answering while at least nine of ten failures are a
503, the quick "come back later". Partly, if no answer is wrong but something else of this fails.
Otherwise the article is wrong.

Timed: it needs a quiet machine. About one and a half minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from experiments.serving_load import pictures
from zoo_lessons.datasets.digits import digits
from zoo_lessons.deploy.serving.background import BackgroundService
from zoo_lessons.deploy.serving.load import LoadProcess, Plan, summarise, timeline
from zoo_lessons.records import Verdict, experiment

RATE, SECONDS, FAULT_AT, GONE_S, ZIPF = 25.0, 8.0, 3.0, 2.5, 1.1
OVERLOAD_RATE, OVERLOAD_SECONDS, UNDER_WAY = 150.0, 3.0, 32
ERRORS_ALLOWED, BACK_WITHIN, QUICK = 0.02, 30.0, 0.9
PATIENCE_S = 60.0
CALM, REPLICA, REDIS, OVERLOAD = "nothing", "replica killed", "Redis stopped", "overload"


def digit_pool() -> list[dict[str, Any]]:
    """Requests for the digit reader, with what it should say."""
    from zoo_lessons.deploy.serving.predictors import load_predictor

    bodies = [{"type": "digit", "image": image[0].tolist()} for image in digits().images]
    answers = load_predictor("digit")([{"image": body["image"]} for body in bodies])
    return [{"body": body, "expect": one.output} for body, one in zip(bodies, answers, strict=True)]


def kill_a_replica(service: BackgroundService, start: float) -> dict[str, Any]:
    """Kill one, and wait until there are two again."""
    wait_until(start + FAULT_AT)
    killed = time.monotonic()
    service.command("kill_replica", model="digit")
    while time.monotonic() < killed + PATIENCE_S:
        if len(service.command("pids", model="digit")) == 2:
            return {
                "marks": [mark("replica killed", killed - start)],
                "back": time.monotonic() - killed,
            }
        time.sleep(0.2)
    return {"marks": [mark("replica killed", killed - start)], "back": None}


def stop_redis(service: BackgroundService, start: float) -> dict[str, Any]:
    """Stop it, and start it again."""
    wait_until(start + FAULT_AT)
    stopped = time.monotonic() - start
    service.command("stop_cache")
    wait_until(start + FAULT_AT + GONE_S)
    service.command("start_cache")
    returned = time.monotonic() - start
    return {"marks": [mark("Redis stopped", stopped), mark("started", returned)], "back": None}


def wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def mark(text: str, when: float) -> dict[str, Any]:
    return {"time": round(when, 3), "text": text}


def scenario(
    service: BackgroundService,
    pool: list[dict[str, Any]],
    plan: Plan,
    fault: Callable[[BackgroundService, float], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Load the service, do it harm, and say what users saw."""
    load = LoadProcess(service.url, pool, plan)
    begun = load.wait_for_start()
    done = fault(service, begun) if fault else {"marks": [], "back": None}
    rows = load.rows()
    statuses: dict[str, int] = {}
    for row in rows:
        statuses[str(row["status"])] = statuses.get(str(row["status"]), 0) + 1
    if fault is stop_redis:
        returned = done["marks"][-1]["time"]
        hits = [row["time"] + row["latency"] for row in rows if row["cached"]]
        done["back"] = min((when - returned for when in hits if when > returned), default=None)
    return {
        **asdict(summarise(rows, plan.seconds)),
        "statuses": statuses,
        **done,
        "timeline": timeline(rows),
    }


def judge(found: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """C28, by the thresholds of this file's first lines."""
    wrong = sum(one["wrong"] for one in found.values())
    shares = {name: found[name]["errors"] / found[name]["requests"] for name in (REPLICA, REDIS)}
    overload = found[OVERLOAD]
    refused = overload["statuses"].get("503", 0) / max(1, overload["errors"])
    back = found[REPLICA]["back"]
    holds = (
        all(share <= ERRORS_ALLOWED for share in shares.values())
        and back is not None
        and back <= BACK_WITHIN
        and found[REDIS]["back"] is not None
        and overload["answered"] > 0
        and refused >= QUICK
    )
    verdict = "the article is wrong" if wrong else "reproduced" if holds else "partly"
    said_back = "not within a minute" if back is None else f"after {back:.0f} s"
    return Verdict(
        verdict,
        ours=f"{wrong} wrong answers in {sum(one['requests'] for one in found.values())} requests; "
        f"{shares[REPLICA]:.1%} failed when a replica died (back {said_back}), "
        f"{shares[REDIS]:.1%} when Redis did",
        explanation=(
            f"Under overload the service answered {overload['rate']:.0f} per second of "
            f"{OVERLOAD_RATE:.0f}, and {refused:.0%} of the failures were a quick 503. The cache "
            f"answered {found[CALM]['cached'] / found[CALM]['answered']:.0%} of the calm load. All "
            "parts run on one machine, which itself may fail."
        ),
        cell="21#A-service-that-takes-a-beating",
    )


@experiment(
    "serving_faults",
    claims=["C28"],
    lesson="21",
    uses=[
        "experiments.digits_vit",
        "experiments.serving_load",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.deploy.serving.background",
        "zoo_lessons.deploy.serving.cache",
        "zoo_lessons.deploy.serving.ingress",
        "zoo_lessons.deploy.serving.load",
        "zoo_lessons.deploy.serving.normal",
        "zoo_lessons.deploy.serving.predictors",
        "zoo_lessons.deploy.serving.replica",
        "zoo_lessons.deploy.serving.router",
        "zoo_lessons.deploy.serving.service",
    ],
)
def serving_faults() -> dict[str, Any]:
    readers, captions = digit_pool(), pictures()
    found = {}
    arguments = ("--replicas", "digit=2,caption=1", "--max-in-flight", str(UNDER_WAY))
    with BackgroundService(*arguments) as service:
        for name, fault in {CALM: None, REPLICA: kill_a_replica, REDIS: stop_redis}.items():
            zipf = 0.0 if name == REPLICA else ZIPF
            plan = Plan(rate=RATE, seconds=SECONDS, zipf=zipf, seed=len(found))
            found[name] = scenario(service, readers, plan, fault)
        plan = Plan(rate=OVERLOAD_RATE, seconds=OVERLOAD_SECONDS, seed=9)
        found[OVERLOAD] = scenario(service, captions, plan)
    return {
        "figures": {
            "rate": RATE,
            "overload_rate": OVERLOAD_RATE,
            "under_way": UNDER_WAY,
            "scenarios": found,
        },
        "verdicts": {"C28": judge(found)},
    }
