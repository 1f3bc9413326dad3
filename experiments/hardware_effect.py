"""What a processor's instruction sets do for one product: the same product with and without them.

(512, 768) @ (768, 768), 512 tokens through a layer of BERT-Base's width, in float32, bfloat16 and
int8, all by oneDNN. For each level, oneDNN is told to use nothing newer, in a fresh Python, which
times the three side by side. The levels are for x86; elsewhere the variable does not apply.
"""

from __future__ import annotations

from typing import Any

from zoo_lessons.deploy.hardware import LEVELS, ROWS, WIDTH, detect, product_times
from zoo_lessons.records import experiment

ROUNDS, REPEATS = 7, 3


@experiment(
    "hardware_effect", lesson="20", uses=["zoo_lessons.bench", "zoo_lessons.deploy.hardware"]
)
def hardware_effect() -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {level: [] for level in LEVELS}
    for _ in range(REPEATS):  # level after level, and again: a slow spell hits all of them
        for level, environment in LEVELS.items():
            runs[level].append(product_times(environment, rounds=ROUNDS))
    seconds = {
        level: {name: min(run[name] for run in several) for name in several[0]}
        for level, several in runs.items()
    }
    return {
        "figures": {
            "shape": [ROWS, WIDTH, WIDTH],
            "features": detect(),
            "levels": LEVELS,
            "seconds": seconds,
            "runs": runs,
        }
    }
