"""Inside a lesson's kernel: move the seeds that its cells set, and write down its assertions.

IPython hands each cell's syntax tree to `Watcher` before it runs. The stored lesson stays as it is.
"""

from __future__ import annotations

import ast
import builtins
import json
import sys
from dataclasses import dataclass
from typing import Any

# Far beyond any seed that a lesson or an experiment uses, so that no shifted generator repeats
# what a checkpoint was trained on.
STRIDE = 1_000_000

# Calls whose first argument is a seed: of initialisation, order of batches, and draws from a
# `torch.Generator`.
SEED_FIRST = {"manual_seed", "seed_everything"}
# Calls whose keyword `seed` is one. All other `seed=...` choose data, and stay: a data set's seed
# decides what is in its training part and what is in its test part.
SEED_KEYWORD = {"fit", "train_gan", "distinct_caption_batches"}
# The call in the set-up cell that seeds everything with 0 unless told otherwise.
SEEDS_ALL = "begin"

CHECK = "__zoo_check__"


@dataclass
class Check:
    """One `assert` of a lesson: where it stands, what it says, and how often it was right."""

    cell: int
    test: str
    held: int = 0
    failed: int = 0


class Watcher(ast.NodeTransformer):
    """Rewrites a cell: `manual_seed(3)` becomes `manual_seed(3 + shift)`, an assertion a check.

    A check that fails does not raise, so that the rest of the lesson is still seen.

    Args:
        shift: what to add to each seed.
    """

    def __init__(self, shift: int) -> None:
        self.shift = shift
        self.shifted = 0
        self.checks: dict[tuple[int, str], Check] = {}
        self._cell = -1

    def __call__(self, value: Any, cell: int, test: str) -> None:
        """What a rewritten assertion calls."""
        check = self.checks[cell, test]
        if value:
            check.held += 1
        else:
            check.failed += 1

    def begin_cell(self, *_: Any) -> None:
        """Another cell comes; they are numbered from 0 as they run."""
        self._cell += 1

    def visit_Assert(self, node: ast.Assert) -> ast.Expr:
        self.generic_visit(node)
        test = ast.unparse(node.test)
        self.checks.setdefault((self._cell, test), Check(self._cell, test))
        arguments = [node.test, ast.Constant(self._cell), ast.Constant(test)]
        call = ast.Call(ast.Name(CHECK, ast.Load()), arguments, keywords=[])
        return ast.copy_location(ast.Expr(call), node)

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        keywords = {keyword.arg: keyword for keyword in node.keywords}
        if name in SEED_FIRST and node.args:
            node.args[0] = self._moved(node.args[0])
        elif name in SEED_KEYWORD and "seed" in keywords:
            keywords["seed"].value = self._moved(keywords["seed"].value)
        elif name == SEEDS_ALL and ast.unparse(node.func) == f"lab.{SEEDS_ALL}":
            node.keywords.append(ast.keyword("seed", self._moved(ast.Constant(0))))
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.Dict:
        """`fit(..., **settings)` with `settings = {"lr": ..., "seed": 0}`."""
        self.generic_visit(node)
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        if "seed" in keys and "lr" in keys:
            place = keys.index("seed")
            node.values[place] = self._moved(node.values[place])
        return node

    def _moved(self, seed: ast.expr) -> ast.expr:
        self.shifted += 1
        return ast.BinOp(seed, ast.Add(), ast.Constant(self.shift))


def watch(shift: int) -> Watcher:
    """Rewrite every cell that this kernel runs from now on."""
    from IPython import get_ipython

    shell, watcher = get_ipython(), Watcher(shift)
    setattr(builtins, CHECK, watcher)  # cells may define their own names, but not this one
    shell.ast_transformers.append(watcher)
    shell.events.register("pre_run_cell", watcher.begin_cell)
    return watcher


def report(watcher: Watcher) -> str:
    """What was seen, as JSON: checks, how many seeds were moved, modules of the library in use."""
    return json.dumps(
        {
            "checks": [vars(check) for check in watcher.checks.values()],
            "shifted": watcher.shifted,
            "modules": sorted(name for name in sys.modules if name.split(".")[0] == "zoo_lessons"),
        }
    )
