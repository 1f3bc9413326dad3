"""A linear-chain conditional random field (CRF): tags a sequence as a whole, not token by token.

Sources: Lafferty, McCallum & Pereira, "Conditional Random Fields" (2001); Lample et al., "Neural
Architectures for Named Entity Recognition" (2016, arXiv:1603.01360), section 2.2, whose P is
`emissions` here and whose A is `transitions` with `start` and `end`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo_lessons.layers.checks import require_finite, require_width


class CRF(nn.Module):
    """Scores whole tag sequences, and sums or searches over all of them exactly.

    A sequence's score is the sum of its emissions, one per token, and of its transitions, one per
    neighbouring pair of tags. softmax over the scores of all sequences gives their probabilities.
    All parameters start at zero: the tags are then independent of each other.

    Args:
        num_tags: number of tags.
        allowed: Boolean (from, to). False forbids that `to` follows `from`: sequences with such a
            pair have probability zero. None allows all.
        allowed_start: Boolean (num_tags,), tags that may come first.
        allowed_end: Boolean (num_tags,), tags that may come last.

    Raises:
        TypeError: an `allowed` that is not Boolean.
        ValueError: an `allowed` of another shape, or num_tags < 1.
    """

    def __init__(
        self,
        num_tags: int,
        *,
        allowed: Tensor | None = None,
        allowed_start: Tensor | None = None,
        allowed_end: Tensor | None = None,
    ):
        super().__init__()
        if num_tags < 1:
            raise ValueError(f"num_tags={num_tags}, expected at least 1")
        self.num_tags = num_tags
        self.transitions = nn.Parameter(torch.zeros(num_tags, num_tags))  # (from, to)
        self.start = nn.Parameter(torch.zeros(num_tags))
        self.end = nn.Parameter(torch.zeros(num_tags))
        for name, rule, scores in (
            ("allowed", allowed, self.transitions),
            ("allowed_start", allowed_start, self.start),
            ("allowed_end", allowed_end, self.end),
        ):
            rule = torch.ones_like(scores, dtype=torch.bool) if rule is None else rule
            _require_rule(name, rule, scores.shape)
            self.register_buffer(name, rule.clone(), persistent=False)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None) -> Tensor:
        """-log p(tags | emissions), the loss of each sequence.

        Args:
            emissions: (batch, length, num_tags).
            tags: integers (batch, length). Where the mask is False they may be anything.
            mask: Boolean (batch, length), True = token, False = padding at the end. None: no
                padding.

        Returns:
            (batch,), at least 0.

        Raises:
            TypeError: a mask that is not Boolean, or tags that are not integers.
            ValueError: shapes that do not fit, a mask with a hole or an empty row, a tag out of
                range, or tags that the rules forbid.
        """
        return self.log_partition(emissions, mask) - self.score(emissions, tags, mask)

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None) -> Tensor:
        """The score of one tag sequence per row: (batch,). Arguments and errors as in `forward`."""
        emissions, mask = self._check(emissions, mask)
        tags = self._check_tags(tags, mask)
        before, after = tags[:, :-1], tags[:, 1:]
        emitted = emissions.gather(2, tags[:, :, None])[:, :, 0]  # (batch, length)
        moved = self.transitions[before, after]  # (batch, length - 1)
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]  # (batch,)
        return (
            self.start[tags[:, 0]]
            + (emitted * mask).sum(1)
            + (moved * mask[:, 1:]).sum(1)
            + self.end[last]
        )

    def log_partition(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """log Z: the log of the sum of exp(score) over all tag sequences.

        There are num_tags^length of them; the forward algorithm sums them in length · num_tags²
        steps, because sequences that agree on a tag share all that comes after.

        Args and errors as in `forward`.

        Returns:
            (batch,).
        """
        emissions, mask = self._check(emissions, mask)
        return _logsumexp(self._forward_scores(emissions, mask)[-1] + self._rules()[2], dim=1)

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor | None = None) -> list[list[int]]:
        """The sequence with the highest score (Viterbi's algorithm), without padding.

        Raises:
            ValueError: as in `forward`, or the rules allow no sequence of this length.
        """
        emissions, mask = self._check(emissions, mask)
        start, transitions, end = self._rules()
        best = start + emissions[:, 0]  # (batch, tags): the best score that ends in each tag
        back = []  # and the tag before it
        for t in range(1, emissions.shape[1]):
            scores, came_from = (best[:, :, None] + transitions).max(dim=1)  # over `from`
            best = torch.where(mask[:, t, None], scores + emissions[:, t], best)
            back.append(came_from)
        highest, last = (best + end).max(dim=1)
        _require_path(highest)
        paths = []
        for row, length in enumerate(mask.sum(1).tolist()):
            path = [int(last[row])]
            for came_from in reversed(back[: length - 1]):
                path.append(int(came_from[row, path[-1]]))
            paths.append(path[::-1])
        return paths

    def marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The probability of each tag at each token, whatever the other tags are.

        The forward algorithm sums over what comes before a token, the same run from the end sums
        over what comes after.

        Returns:
            (batch, length, num_tags): rows sum to 1, and are zero where the mask is False.

        Raises:
            ValueError: as in `forward`, or the rules allow no sequence of this length.
        """
        emissions, mask = self._check(emissions, mask)
        _, transitions, end = self._rules()
        before = self._forward_scores(emissions, mask)  # length × (batch, tags)
        after = [end.expand_as(before[-1])]  # the same for the last token of each row
        for t in range(emissions.shape[1] - 1, 0, -1):
            paths = transitions + (emissions[:, t] + after[-1])[:, None, :]  # (batch, from, to)
            after.append(torch.where(mask[:, t, None], _logsumexp(paths, dim=2), after[-1]))
        log_z = _logsumexp(before[-1] + end, dim=1)
        _require_path(log_z)
        both = torch.stack(before, 1) + torch.stack(after[::-1], 1)  # (batch, length, tags)
        return (both - log_z[:, None, None]).exp() * mask[:, :, None]

    def _forward_scores(self, emissions: Tensor, mask: Tensor) -> list[Tensor]:
        """For each token (batch, tags): log of the sum over all beginnings that end in this tag.

        Behind the end of a row, its last value is repeated.
        """
        start, transitions, _ = self._rules()
        scores = [start + emissions[:, 0]]
        for t in range(1, emissions.shape[1]):
            paths = scores[-1][:, :, None] + transitions  # (batch, from, to)
            longer = _logsumexp(paths, dim=1) + emissions[:, t]
            scores.append(torch.where(mask[:, t, None], longer, scores[-1]))
        return scores

    def _rules(self) -> tuple[Tensor, Tensor, Tensor]:
        """start, transitions and end, with -inf where the rules forbid."""
        return (
            self.start.masked_fill(~self.allowed_start, -math.inf),
            self.transitions.masked_fill(~self.allowed, -math.inf),
            self.end.masked_fill(~self.allowed_end, -math.inf),
        )

    def _check(self, emissions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        require_width("emissions", emissions, self.num_tags, "batch, length, num_tags")
        require_finite("emissions", emissions)
        if mask is None:
            mask = torch.ones_like(emissions[:, :, 0], dtype=torch.bool)
        if mask.dtype != torch.bool:
            raise TypeError(
                f"mask has dtype {mask.dtype}, expected torch.bool with True = token: "
                "call attention_mask.bool()"
            )
        if mask.shape != emissions.shape[:2] or mask.shape[1] == 0:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)} and emissions {tuple(emissions.shape)}, "
                "expected (batch, length) and (batch, length, num_tags) with at least one token"
            )
        bad = ~mask[:, 0] | (mask[:, 1:] & ~mask[:, :-1]).any(1)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"mask row {row} is {mask[row].int().tolist()}, expected one or more 1, then only "
                "0: a chain has no holes. Gather the tokens that are tagged first"
            )
        # Long sums need at least float32, also where a model runs in half precision.
        return emissions.to(torch.promote_types(emissions.dtype, self.transitions.dtype)), mask

    def _check_tags(self, tags: Tensor, mask: Tensor) -> Tensor:
        """Integer tags with 0 in place of padding."""
        if tags.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tags has dtype {tags.dtype}, expected integers (torch.int64)")
        if tags.shape != mask.shape:
            raise ValueError(
                f"tags has shape {tuple(tags.shape)}, expected (batch, length) = "
                f"{tuple(mask.shape)}"
            )
        tags = tags.long().masked_fill(~mask, 0)
        low, high = int(tags.min()), int(tags.max())
        if low < 0 or high >= self.num_tags:
            raise ValueError(
                f"tags holds values from {low} to {high} where the mask is True, "
                f"expected 0 to {self.num_tags - 1} (num_tags={self.num_tags})"
            )
        before, after = tags[:, :-1], tags[:, 1:]
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
        pairs = (~self.allowed[before, after] & mask[:, 1:]).nonzero()
        if len(pairs):
            row, t = pairs[0].tolist()
            raise ValueError(
                f"tags row {row} goes from {int(before[row, t])} to {int(after[row, t])} at token "
                f"{t + 1}, which `allowed` forbids: its probability is zero"
            )
        for where, tag, rule in (("starts", tags[:, 0], "start"), ("ends", last, "end")):
            rows = (~getattr(self, f"allowed_{rule}")[tag]).nonzero()
            if len(rows):
                row = int(rows[0])
                raise ValueError(
                    f"tags row {row} {where} with {int(tag[row])}, which `allowed_{rule}` "
                    "forbids: its probability is zero"
                )
        return tags


def _logsumexp(x: Tensor, dim: int) -> Tensor:
    """torch.logsumexp whose gradient is 0, not NaN, where all terms are -inf (no path at all)."""
    nothing = (x == -math.inf).all(dim, keepdim=True)
    return x.masked_fill(nothing, 0).logsumexp(dim).masked_fill(nothing.squeeze(dim), -math.inf)


def _require_rule(name: str, rule: Tensor, shape: torch.Size) -> None:
    if rule.dtype != torch.bool:
        raise TypeError(f"{name} has dtype {rule.dtype}, expected torch.bool with True = allowed")
    if rule.shape != shape:
        raise ValueError(f"{name} has shape {tuple(rule.shape)}, expected {tuple(shape)}")


def _require_path(score: Tensor) -> None:
    if (score == -math.inf).any():
        row = int((score == -math.inf).nonzero()[0])
        raise ValueError(f"row {row}: the rules allow no tag sequence of its length")
