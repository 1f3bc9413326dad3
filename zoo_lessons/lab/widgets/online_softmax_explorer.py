"""Online-softmax explorer: one query reads its keys block by block."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import traitlets
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png
from zoo_lessons.lab.widgets.seeded import uniforms

NUM_KEYS = 16
KINDS = ("random", "rising", "falling", "one large")


class State(NamedTuple):
    """After some blocks: maximum, sum of exponentials, and their sum weighted by the values."""

    maximum: float
    total: float
    weighted: float

    @property
    def output(self) -> float:
        return self.weighted / self.total if self.total else 0.0


class OnlineSoftmaxExplorer(ZooWidget):
    """The running maximum, the running sum, the rescaling and the output of one query.

    Sixteen keys with scores and values (one number each) are read in blocks. Switched off, the
    rescaling shows what it is for.

    Args:
        kind: how the scores run from the first key to the last, one of `KINDS`.
        seed: which random draw, 1 to 20.
        block: keys in a block, 1 to 16.
        step: blocks that were read, 0 to 16; beyond the last block, all of them.
        rescale: measure what was summed before from the new maximum, as one must.

    Raises:
        traitlets.TraitError: an argument outside its values.
    """

    _script = "online_softmax_explorer.js"
    _style = "online_softmax_explorer.css"

    kind = traitlets.Enum(KINDS, "random").tag(sync=True)
    seed = traitlets.Int(1, min=1, max=20).tag(sync=True)
    block = traitlets.Int(4, min=1, max=NUM_KEYS).tag(sync=True)
    step = traitlets.Int(2, min=0, max=NUM_KEYS).tag(sync=True)
    rescale = traitlets.Bool(True).tag(sync=True)
    num_keys = traitlets.Int(NUM_KEYS, read_only=True).tag(sync=True)

    def scores_and_values(self) -> tuple[np.ndarray, np.ndarray]:
        """Each (16,): scores between about -5 and 5, values between -1 and 1."""
        uniform = uniforms(self.seed, 2 * NUM_KEYS)
        noise, values = 2 * uniform[:NUM_KEYS] - 1, 2 * uniform[NUM_KEYS:] - 1
        place = np.arange(NUM_KEYS) / (NUM_KEYS - 1)
        scores = {
            "random": 3 * noise,
            "rising": 8 * place - 4 + noise,
            "falling": 4 - 8 * place + noise,
            "one large": noise + 5 * (np.arange(NUM_KEYS) == 10),
        }[self.kind]
        return scores, values

    def states(self, rescale: bool = True) -> list[State]:
        """Before any block, and after each."""
        scores, values = self.scores_and_values()
        found = [State(-math.inf, 0.0, 0.0)]
        for start in range(0, NUM_KEYS, self.block):
            part = slice(start, start + self.block)
            past = found[-1]
            maximum = max(past.maximum, scores[part].max())
            factor = math.exp(past.maximum - maximum) if rescale else 1.0
            exps = np.exp(scores[part] - maximum)
            total = factor * past.total + exps.sum()
            found.append(State(maximum, total, factor * past.weighted + exps @ values[part]))
        return found

    def exact(self) -> float:
        """Attention over all keys, by the formula."""
        scores, values = self.scores_and_values()
        exps = np.exp(scores - scores.max())
        return float(exps @ values / exps.sum())

    def static_text(self) -> str:
        states = self.states(self.rescale)
        done = min(self.step, len(states) - 1)
        state = states[done]
        return (
            f"OnlineSoftmaxExplorer(kind={self.kind}, seed={self.seed}, block={self.block}, "
            f"rescale={self.rescale}): after {done} of {len(states) - 1} blocks maximum "
            f"{state.maximum:.2f}, sum {state.total:.3f}, output {state.output:.3f}; exact over "
            f"all keys {self.exact():.3f}"
        )

    def static_png(self) -> bytes:
        fig = Figure(figsize=(9.6, 3.3), layout="constrained")
        bars, right = fig.subplots(1, 2)
        scores, _ = self.scores_and_values()
        states = self.states(self.rescale)
        done = min(self.step, len(states) - 1)
        place = np.arange(NUM_KEYS)
        read = place < done * self.block
        bars.bar(place[read], scores[read], color="#0072b2", label="read")
        bars.bar(place[~read], scores[~read], color="#bbbbbb", label="to come")
        for edge in range(self.block, NUM_KEYS, self.block):
            bars.axvline(edge - 0.5, color="#767676", linewidth=0.8, linestyle=":")
        if done:
            bars.axhline(states[done].maximum, color="#b34700", linestyle="--", label="maximum")
        bars.set(title="Scores of one query, in blocks", xlabel="key", ylabel="score")
        bars.legend(frameon=False, fontsize=8)
        blocks = np.arange(len(states))
        for rescale, color, dash, name in (
            (True, "#0072b2", "o-", "with rescaling"),
            (False, "#b34700", "s--", "without"),
        ):
            outputs = [state.output for state in self.states(rescale)]
            right.plot(blocks[1:], outputs[1:], dash, color=color, label=name)
        right.axhline(self.exact(), color="#767676", linewidth=1, linestyle=":")
        right.set(title="Output; dotted: exact", xlabel="blocks read", ylabel="output")
        right.set_xticks(blocks[1:])
        right.legend(frameon=False, fontsize=8)
        return figure_png(fig)
