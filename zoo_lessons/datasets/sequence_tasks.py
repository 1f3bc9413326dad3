"""Three small tasks that ask what a sequence model can keep: copying, selective copying, induction.

Each example is a sequence in which some places are questions, and the answer of a question is the
token that follows it. So a language model learns them by predicting the next token, and only the
questions count. `COPY`, `NOISE` and `SEPARATOR` have the ids 0, 1 and 2; the symbols follow.

- **copying**: `c a f d · · · · > c a f d`. The symbols stand together, at the same place in every
  example: to copy is to shift by a fixed distance.
- **selective copying**: `· c · · a f · d > c a f d`. The symbols stand at random places among the
  noise: one must tell symbols from noise (Gu and Dao, "Mamba", 2023, section 3.1).
- **induction**: `c a f d b e | a f | b e | c a`. After the bar, a symbol that was seen before is
  shown again: what followed it then (Olsson et al., "In-context Learning and Induction Heads",
  2022)? Every neighbouring pair must be kept, because any may be asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

COPY, NOISE, SEPARATOR = range(3)
FIRST_SYMBOL = 3
SIGNS = (">", "·", "|")
TASKS = ("copying", "selective copying", "induction")


class SequenceBatch(NamedTuple):
    """Sequences, and where their questions are."""

    input_ids: Tensor  # (batch, length)
    asked: Tensor  # bool (batch, length): True where the next token is an answer


def sequence_batch(
    task: str,
    size: int,
    *,
    num_symbols: int = 12,
    kept: int = 8,
    places: int = 24,
    questions: int = 6,
    generator: torch.Generator | None = None,
) -> SequenceBatch:
    """Draw examples of a task.

    Args:
        task: one of `TASKS`.
        size: how many examples.
        num_symbols: size of the alphabet.
        kept: how many symbols must be kept: to be copied, or shown before the first bar.
        places: length of what comes before `>` in the copying tasks.
        questions: how many symbols are asked for in the induction task.
        generator: source of randomness.

    Raises:
        ValueError: an unknown task, or sizes that do not fit.
    """
    if task not in TASKS:
        raise ValueError(f"task={task!r}, expected one of {', '.join(TASKS)}")
    if not 2 <= kept <= num_symbols:
        raise ValueError(f"kept={kept}, expected 2 to num_symbols={num_symbols}, each once")
    symbols = _rows_of_permutations(size, num_symbols, generator)[:, :kept] + FIRST_SYMBOL
    if task == "induction":
        return _induction(symbols, questions, generator)
    if places < kept:
        raise ValueError(f"places={places}, expected at least kept={kept}")
    context = torch.full((size, places), NOISE)
    if task == "copying":
        context[:, :kept] = symbols
    else:
        where = _rows_of_permutations(size, places, generator)[:, :kept].sort(dim=1).values
        context.scatter_(1, where, symbols)
    sign = torch.full((size, 1), COPY)
    input_ids = torch.cat([context, sign, symbols], dim=1)  # (size, places + 1 + kept)
    asked = torch.zeros_like(input_ids, dtype=torch.bool)
    asked[:, places:-1] = True
    return SequenceBatch(input_ids, asked)


def vocabulary_size(num_symbols: int = 12) -> int:
    """How many ids there are, signs included."""
    return FIRST_SYMBOL + num_symbols


def as_text(input_ids: Tensor) -> str:
    """One example (length) for people: symbols are letters."""
    letters = (
        SIGNS[i] if i < FIRST_SYMBOL else chr(ord("a") + i - FIRST_SYMBOL)
        for i in input_ids.tolist()
    )
    return " ".join(letters)


def _induction(symbols: Tensor, questions: int, generator: torch.Generator | None) -> SequenceBatch:
    size, kept = symbols.shape
    if not 1 <= questions < kept:
        raise ValueError(
            f"questions={questions}, expected 1 to {kept - 1}: the last symbol has no successor"
        )
    which = _rows_of_permutations(size, kept - 1, generator)[:, :questions]
    asked_for, answers = symbols.gather(1, which), symbols.gather(1, which + 1)
    bars = torch.full_like(asked_for, SEPARATOR)
    triples = torch.stack([bars, asked_for, answers], dim=2).flatten(1)  # (size, 3 · questions)
    input_ids = torch.cat([symbols, triples], dim=1)
    asked = torch.zeros_like(input_ids, dtype=torch.bool)
    asked[:, kept + 1 :: 3] = True
    return SequenceBatch(input_ids, asked)


def _rows_of_permutations(rows: int, width: int, generator: torch.Generator | None) -> Tensor:
    return torch.rand(rows, width, generator=generator).argsort(dim=1)
