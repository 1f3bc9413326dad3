"""State-space layers: a linear recurrence over time, computed step by step or in parallel.

A state-space model keeps a state h(t) that follows h'(t) = A h(t) + B x(t) and shows y = C h + D x.
With a diagonal A, as everywhere below, each number of the state goes its own way.

Sources: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023),
sections 2 and 3; Gu et al., "On the Parameterization and Initialization of Diagonal State Space
Models" (S4D, 2022), sections 3 and 4; Blelloch, "Prefix Sums and Their Applications" (1990),
section 1.4, for the parallel scan.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.checks import require_finite, require_width

Discretisation = Literal["zoh", "euler"]


def discretise(
    delta: Tensor, A: Tensor, B: Tensor, *, method: Discretisation = "zoh"
) -> tuple[Tensor, Tensor]:
    """From h'(t) = A h(t) + B x(t) to h_t = A_bar h_{t-1} + B_bar x_t, for steps of length delta.

    Zero-order hold ("zoh") is exact where x stays constant during a step (Mamba, equation 4):
    A_bar = exp(ΔA) and B_bar = (exp(ΔA) - 1) / A · B. "euler" has the same A_bar and only the first
    term of B_bar, ΔB. Mamba's paper writes the first; its code, and that of `transformers`,
    computes the second.

    Args:
        delta: step lengths, positive.
        A: the diagonal of A. Negative, or the state grows without bound.
        B: how the input enters. The three broadcast with one another.
        method: "zoh" or "euler".

    Returns:
        A_bar and B_bar.

    Raises:
        ValueError: an unknown method.
    """
    _require_method(method)
    z = delta * A
    B_bar = delta * B
    return z.exp(), (_hold(z) * B_bar if method == "zoh" else B_bar)


def _hold(z: Tensor) -> Tensor:
    """(exp(z) - 1) / z, which tends to 1 where z tends to 0."""
    small = z.abs() < 1e-2
    # Near 0 the quotient's gradient is a difference of almost equal numbers: use the series there.
    series = 1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6))))
    away = z.masked_fill(small, 1.0)  # no 0/0, whose gradient would be NaN even if not chosen
    return torch.where(small, series, torch.expm1(away) / away)


def scan_loop(a: Tensor, x: Tensor, initial: Tensor | None = None) -> Tensor:
    """h_t = a_t h_{t-1} + x_t, one step after the other.

    Args:
        a, x: (batch, length, ...), of one shape.
        initial: the state before the first step, (batch, ...). Zeros by default.

    Returns:
        The states h_1 ... h_length, (batch, length, ...).

    Raises:
        ValueError: shapes that do not fit.
    """
    _require_scan(a, x, initial)
    h = torch.zeros_like(x[:, 0]) if initial is None else initial
    states = []
    for t in range(x.shape[1]):
        h = a[:, t] * h + x[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def scan_parallel(a: Tensor, x: Tensor, initial: Tensor | None = None) -> Tensor:
    """What `scan_loop` computes, in about 2 log₂(length) rounds instead of `length` steps.

    Two steps are one step: a₂(a₁h + x₁) + x₂ = (a₂a₁)h + (a₂x₁ + x₂). So join neighbours, solve
    the half as long recurrence (again so), and fill in the states between. In all about twice the
    multiplications of the loop, but each round is one operation on long tensors.

    Arguments, result and errors are those of `scan_loop`.
    """
    _require_scan(a, x, initial)
    return _scan_pairs(a, _enter(a, x, initial))


def _scan_pairs(a: Tensor, x: Tensor) -> Tensor:
    length = x.shape[1]
    if length == 1:
        return x
    pairs = length // 2
    a1, x1 = a[:, 0 : 2 * pairs : 2], x[:, 0 : 2 * pairs : 2]  # the first of each pair
    a2, x2 = a[:, 1::2], x[:, 1::2]  # the second
    h = torch.empty_like(x)
    h[:, 1::2] = second = _scan_pairs(a2 * a1, a2 * x1 + x2)
    h[:, 0] = x[:, 0]
    h[:, 2::2] = a[:, 2::2] * second[:, : (length - 1) // 2] + x[:, 2::2]
    return h


def linear_scan(
    a: Tensor, x: Tensor, initial: Tensor | None = None, *, parallel: bool | None = None
) -> Tensor:
    """The same states again, for training: one operation of autograd, which keeps only a and h.

    Autograd would keep what each step of `scan_loop`, and each round of `scan_parallel`, has
    made. But the gradient of a linear recurrence is one, too, backward in time:
    with g_t = ∂L/∂h_t from outside, ∂L/∂x_t = g_t + a_{t+1} ∂L/∂x_{t+1}, and
    ∂L/∂a_t = h_{t-1} ∂L/∂x_t.

    Args:
        a, x, initial: as in `scan_loop`; a may also broadcast to x.
        parallel: whether to scan in rounds. By default on a GPU only: a CPU has few cores, which
            one step of a batch keeps busy.
    """
    a = a.expand_as(x)
    _require_scan(a, x, initial)
    if parallel is None:
        parallel = x.device.type != "cpu"
    return _LinearScan.apply(a, _enter(a, x, initial), parallel)


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, parallel: bool) -> Tensor:
        h = _scan_pairs(a, x) if parallel else _scan_into(a, x)
        if h is x:  # a sequence of one: autograd must not take an input for a new output
            h = x.clone()
        ctx.save_for_backward(a, h)
        ctx.parallel = parallel
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        a, h = ctx.saved_tensors
        nothing = torch.zeros_like(a[:, :1])
        a_next = torch.cat([a[:, 1:], nothing], dim=1)  # a_{t+1}; none after the last
        back = _LinearScan.apply(a_next.flip(1), grad.flip(1), ctx.parallel)
        grad_x = back.flip(1)
        grad_a = torch.cat([nothing, grad_x[:, 1:] * h[:, :-1]], dim=1)  # none before the first
        return grad_a, grad_x, None


def _scan_into(a: Tensor, x: Tensor) -> Tensor:
    """The loop, writing each state into its place: one operation for each step."""
    h = torch.empty_like(x)
    h[:, 0] = x[:, 0]
    steps = zip(a.unbind(1)[1:], x.unbind(1)[1:], h.unbind(1), h.unbind(1)[1:], strict=False)
    for a_t, x_t, before, after in steps:
        torch.addcmul(x_t, a_t, before, out=after)
    return h


def _enter(a: Tensor, x: Tensor, initial: Tensor | None) -> Tensor:
    """The same recurrence from a state of zeros: what `initial` adds enters with the first x."""
    if initial is None:
        return x
    first = x[:, 0] + a[:, 0] * initial
    return torch.cat([first[:, None], x[:, 1:]], dim=1)


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    initial: Tensor | None = None,
    method: Discretisation = "euler",
    parallel: bool | None = None,
    chunk: int = 256,
) -> tuple[Tensor, Tensor]:
    """A state space whose step length, B and C change from token to token (Mamba, algorithm 2).

    Args:
        u: the input, (batch, length, d_inner).
        delta: step lengths, (batch, length, d_inner).
        A: (d_inner, d_state), negative.
        B, C: (batch, length, d_state), shared by all channels.
        D: what of the input passes by the state, (d_inner).
        initial: the state before the first token, (batch, d_inner, d_state).
        method: as in `discretise`.
        parallel: as in `linear_scan`.
        chunk: how many tokens to scan at once. The states of a chunk are what needs memory.

    Returns:
        The output (batch, length, d_inner) and the last state (batch, d_inner, d_state).

    Raises:
        ValueError: an empty sequence, shapes that do not fit, chunk below 1, an unknown method.
    """
    _require_method(method)
    d_inner, d_state = A.shape
    require_width("u", u, d_inner, "batch, length, d_inner")
    require_finite("u", u)
    for name, tensor, width in (("delta", delta, d_inner), ("B", B, d_state), ("C", C, d_state)):
        if tensor.shape != (*u.shape[:2], width):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, expected {(*u.shape[:2], width)} as u's "
                "batch and length say"
            )
    if chunk < 1 or u.shape[1] < 1:
        raise ValueError(f"chunk={chunk} and {u.shape[1]} tokens, expected at least 1 of each")
    outputs, state = [], initial
    for start in range(0, u.shape[1], chunk):
        part = slice(start, start + chunk)
        z = delta[:, part, :, None] * A  # (batch, chunk, d_inner, d_state)
        # As in `discretise`, but Δ meets u first: one large product instead of two.
        x = (delta[:, part] * u[:, part])[..., None] * B[:, part, None]
        if method == "zoh":
            x = _hold(z) * x
        h = linear_scan(z.exp(), x, state, parallel=parallel)
        outputs.append((h @ C[:, part, :, None]).squeeze(-1))  # (batch, chunk, d_inner)
        state = h[:, -1]
    y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
    return (y if D is None else y + D * u), state


class SelectiveSSM(nn.Module):
    """Mamba's state space: step length, B and C are linear functions of the input (section 3.2).

    Args:
        d_inner: channels, each with its own state.
        d_state: numbers in one channel's state.
        dt_rank: width of the bottleneck through which the step lengths are made.

    A and D do not depend on the input. A starts as -1, -2, ..., -d_state (S4D-Real), the step
    lengths between 0.001 and 0.1 (section 3.6).
    """

    def __init__(self, d_inner: int, d_state: int, dt_rank: int):
        super().__init__()
        self.d_state, self.dt_rank = d_state, dt_rank
        self.x_proj = nn.Linear(d_inner, dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(dt_rank, d_inner)
        self.A_log = nn.Parameter(_s4d_real(d_inner, d_state))  # A = -exp(A_log) stays negative
        self.D = nn.Parameter(torch.ones(d_inner))
        nn.init.uniform_(self.dt_proj.weight, -(dt_rank**-0.5), dt_rank**-0.5)
        with torch.no_grad():
            delta = _first_steps(d_inner)
            self.dt_proj.bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # softplus gives delta

    def forward(self, u: Tensor) -> Tensor:
        """u (batch, length, d_inner) -> the same shape, from a state of zeros."""
        return self.resume(u, None)[0]

    def resume(self, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Go on from a state (batch, d_inner, d_state): the output, and the state after it."""
        dt, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta = F.softplus(self.dt_proj(dt))  # (batch, length, d_inner)
        return selective_scan(u, delta, -self.A_log.exp(), B, C, self.D, initial=state)


class DiagonalSSM(nn.Module):
    """A state space that treats every token alike: step length, B and C are parameters (S4D-Real).

    Because nothing depends on the input, the output is a convolution with one kernel per channel,
    K_t = C · A_bar^t B_bar (Mamba, equation 3), which the fast Fourier transform computes in
    O(length · log length). That is what training uses; generation uses the recurrence.
    """

    def __init__(self, d_inner: int, d_state: int):
        super().__init__()
        self.A_log = nn.Parameter(_s4d_real(d_inner, d_state))
        self.B = nn.Parameter(torch.ones(d_inner, d_state))
        self.C = nn.Parameter(torch.randn(d_inner, d_state) / d_state**0.5)
        self.D = nn.Parameter(torch.ones(d_inner))
        self.log_delta = nn.Parameter(_first_steps(d_inner).log())

    def discrete(self) -> tuple[Tensor, Tensor]:
        """A_bar and B_bar by zero-order hold, each (d_inner, d_state)."""
        return discretise(self.log_delta.exp()[:, None], -self.A_log.exp(), self.B)

    def kernel(self, length: int) -> Tensor:
        """How an input echoes 0, 1, 2, ... steps later, (d_inner, length)."""
        _, B_bar = self.discrete()
        steps = torch.arange(length, device=B_bar.device, dtype=B_bar.dtype)
        z = -self.log_delta.exp()[:, None] * self.A_log.exp()  # ΔA: A_bar^t = exp(t ΔA)
        powers = (z[..., None] * steps).exp()  # (d_inner, d_state, length)
        return ((self.C * B_bar)[:, None] @ powers).squeeze(1)

    def forward(self, u: Tensor) -> Tensor:
        """u (batch, length, d_inner) -> the same shape, by convolution."""
        require_width("u", u, len(self.D), "batch, length, d_inner")
        require_finite("u", u)
        length = u.shape[1]
        size = 2 * length  # room for what would wrap round: a transform's ends meet
        spectrum = torch.fft.rfft(u, n=size, dim=1)  # (batch, length + 1, d_inner)
        spectrum = spectrum * torch.fft.rfft(self.kernel(length), n=size, dim=1).T
        return torch.fft.irfft(spectrum, n=size, dim=1)[:, :length] + self.D * u

    def resume(self, u: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Go on from a state (batch, d_inner, d_state): the output, and the state after it."""
        A_bar, B_bar = self.discrete()
        h = linear_scan(A_bar, B_bar * u[..., None], state)  # (batch, length, d_inner, d_state)
        return (h * self.C).sum(dim=-1) + self.D * u, h[:, -1]


class CausalConv(nn.Module):
    """Each channel's own short convolution over the tokens so far (depthwise, causal).

    Args:
        channels: width of the input and output.
        kernel_size: how many tokens it sees: this one and those before.
        bias: whether each channel has a bias.
    """

    def __init__(self, channels: int, kernel_size: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel_size))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        nn.init.uniform_(self.weight, -(kernel_size**-0.5), kernel_size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, length, channels) -> the same shape. Before the first token are zeros."""
        return self.resume(x, None)[0]

    def resume(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Go on after the last tokens, `before` (batch, kernel_size - 1, channels).

        Returns:
            The output (batch, length, channels), and the last tokens now.
        """
        channels, _, kernel_size = self.weight.shape
        require_width("x", x, channels, "batch, length, channels")
        if before is None:
            before = x.new_zeros(len(x), kernel_size - 1, channels)
        seen = torch.cat([before, x], dim=1)
        y = F.conv1d(seen.transpose(1, 2), self.weight, self.bias, groups=channels)
        # A copy: a view would keep the whole sequence in memory.
        return y.transpose(1, 2), seen[:, seen.shape[1] - (kernel_size - 1) :].clone()


class SSMState:
    """What one Mamba layer remembers of the tokens so far: always the same size."""

    def __init__(self) -> None:
        self.conv: Tensor | None = None  # (batch, kernel_size - 1, d_inner)
        self.ssm: Tensor | None = None  # (batch, d_inner, d_state)

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return 0 if self.ssm is None else self.conv.nbytes + self.ssm.nbytes

    def reorder(self, indices: Tensor) -> None:
        """Make row i of the batch what row indices[i] was. Rows may repeat or be left out."""
        if self.ssm is not None:
            self.conv, self.ssm = self.conv[indices], self.ssm[indices]


def _s4d_real(d_inner: int, d_state: int) -> Tensor:
    """log(1, 2, ..., d_state) for each channel (S4D, section 4.3)."""
    return torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(d_inner, 1)


def _first_steps(d_inner: int, shortest: float = 1e-3, longest: float = 0.1) -> Tensor:
    """Random step lengths, evenly spread on a logarithmic scale."""
    low, high = math.log(shortest), math.log(longest)
    return (low + (high - low) * torch.rand(d_inner)).exp()


def _require_method(method: str) -> None:
    if method not in get_args(Discretisation):
        raise ValueError(
            f"method={method!r}, expected one of {', '.join(get_args(Discretisation))}"
        )


def _require_scan(a: Tensor, x: Tensor, initial: Tensor | None) -> None:
    if a.shape != x.shape or x.ndim < 2 or x.shape[1] < 1:
        raise ValueError(
            f"a has shape {tuple(a.shape)} and x {tuple(x.shape)}, expected the same "
            "(batch, length, ...) with at least one step"
        )
    expected = (x.shape[0], *x.shape[2:])
    if initial is not None and initial.shape != expected:
        raise ValueError(f"initial has shape {tuple(initial.shape)}, expected {expected}")
