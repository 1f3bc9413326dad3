"""Exercises of lesson 16: discretisation, convolution, joining steps, scan, selection, the gate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.models.mamba import MambaConfig, MambaMixer

# --- zero-order hold -----------------------------------------------------------------------------


def zero_order_hold(delta: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    A_bar = torch.exp(delta * A)
    return A_bar, (A_bar - 1) / A * B


def _hold_minus_A(delta, A, B):
    A_bar = torch.exp(delta * A)
    return A_bar, (A_bar - A) / A * B


def _hold_euler_input(delta, A, B):
    return torch.exp(delta * A), delta * B


def _hold_euler_both(delta, A, B):
    return 1 + delta * A, delta * B


def _hold_delta_twice(delta, A, B):
    A_bar = torch.exp(delta * A)
    return A_bar, (A_bar - 1) / A * delta * B


def _hold_delta_lost(delta, A, B):
    A_bar = torch.exp(delta * A)
    return A_bar, (A_bar - 1) / (delta * A) * B


def _hold_sign(delta, A, B):
    A_bar = torch.exp(delta * A)
    return A_bar, (1 - A_bar) / A * B


def _hold_one_second(delta, A, B):
    A_bar = torch.exp(A + 0 * delta)
    return A_bar, (A_bar - 1) / A * B


def _hold_bilinear(delta, A, B):
    half = delta * A / 2
    return (1 + half) / (1 - half), delta * B / (1 - half)


def _hold_cases() -> tuple[Case, ...]:
    random = _random(0)
    return (
        Case(
            (_one(0.5), _one(-2.0), _one(3.0)),
            label="one number each: Δ = 0.5, A = -2, B = 3",
        ),
        Case(
            (random(3, 1).exp(), -random(4).exp(), random(4)),
            label="three step lengths (3, 1), four states (4)",
        ),
        Case((_one(4.0), -random(2, 5).exp(), random(2, 5)), label="a long step, A (2, 5)"),
        Case((_one(0.3), random(3).exp(), random(3)), label="positive A: a state that grows"),
    )


# --- convolution ---------------------------------------------------------------------------------


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for k in range(min(len(kernel), x.shape[1])):
        y[:, k:] += kernel[k] * x[:, : x.shape[1] - k]
    return y


def _convolve_flipped(x, kernel):
    return convolve(x, kernel.flip(0))


def _convolve_centred(x, kernel):
    before = len(kernel) // 2
    padded = F.pad(x, (before, len(kernel) - 1 - before))
    return padded.unfold(1, len(kernel), 1) @ kernel.flip(0)


def _convolve_wraps(x, kernel):
    return sum(value * x.roll(k, dims=1) for k, value in enumerate(kernel))


def _convolve_ahead(x, kernel):
    return convolve(x.flip(1), kernel).flip(1)


def _convolve_late(x, kernel):
    return F.pad(convolve(x, kernel), (1, 0))[:, :-1]


def _convolve_full(x, kernel):
    return convolve(F.pad(x, (0, len(kernel) - 1)), kernel)


def _convolve_cases() -> tuple[Case, ...]:
    random = _random(1)
    impulse = torch.zeros(1, 7, dtype=torch.float64)
    impulse[0, 2] = 1
    return (
        Case(
            (impulse, _numbers(4, 3, 2, 1)), label="an impulse in the third place, kernel 4 3 2 1"
        ),
        Case((random(3, 9), random(4)), label="three sequences of 9, kernel of 4"),
        Case((random(2, 6), random(6)), label="a kernel as long as the sequence"),
        Case((random(2, 3), random(5)), label="a kernel longer than the sequence"),
        Case((random(4, 5).T, random(2)), label="a view that is not contiguous"),
    )


# --- joining two steps ---------------------------------------------------------------------------

Step = tuple[Tensor, Tensor]


def join(first: Step, second: Step) -> Step:
    (a1, x1), (a2, x2) = first, second
    return a2 * a1, a2 * x1 + x2


def _join_in_the_wrong_order(first, second):
    return join(second, first)


def _join_without_decay(first, second):
    (a1, x1), (a2, x2) = first, second
    return a2 * a1, x1 + x2


def _join_with_first_decay(first, second):
    (a1, x1), (a2, x2) = first, second
    return a2 * a1, a1 * x1 + x2


def _join_decays_both(first, second):
    (a1, x1), (a2, x2) = first, second
    return a2 * a1, a2 * (x1 + x2)


def _join_adds_decays(first, second):
    (a1, x1), (a2, x2) = first, second
    return a1 + a2, a2 * x1 + x2


def _join_keeps_second_decay(first, second):
    return second[0], join(first, second)[1]


def _join_crosses(first, second):
    (a1, x1), (a2, x2) = first, second
    return a2 * a1, a2 * x1 + a1 * x2


def _join_cases() -> tuple[Case, ...]:
    random = _random(2)

    def step(*shape: int) -> Step:
        return random(*shape).sigmoid(), random(*shape)

    return (
        Case(
            ((_one(0.5), _one(1.0)), (_one(0.25), _one(2.0))),
            label="h ← 0.5 h + 1, then h ← 0.25 h + 2",
        ),
        Case((step(3, 4), step(3, 4)), label="twelve states at once"),
        Case(((_one(0.0), _one(5.0)), (_one(0.9), _one(-1.0))), label="the first step forgets all"),
        Case(((_one(0.7), _one(2.0)), (_one(0.0), _one(3.0))), label="the second forgets all"),
    )


# --- the scan ------------------------------------------------------------------------------------


def scan(a: Tensor, x: Tensor, initial: Tensor) -> Tensor:
    h, states = initial, []
    for t in range(x.shape[1]):
        h = a[:, t] * h + x[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


def _scan_forgets_initial(a, x, initial):
    return scan(a, x, torch.zeros_like(initial))


def _scan_adds_initial(a, x, initial):
    return scan(a, x, torch.zeros_like(initial)) + initial[:, None]


def _scan_shows_before(a, x, initial):
    return torch.cat([initial[:, None], scan(a, x, initial)[:, :-1]], dim=1)


def _scan_backward(a, x, initial):
    return scan(a.flip(1), x.flip(1), initial).flip(1)


def _scan_next_decay(a, x, initial):
    return scan(torch.cat([a[:, 1:], a[:, -1:]], dim=1), x, initial)


def _scan_decays_input(a, x, initial):
    return scan(a, a * x, initial)


def _scan_sums(a, x, initial):
    return initial[:, None] + x.cumsum(dim=1)


def _scan_last_only(a, x, initial):
    return scan(a, x, initial)[:, -1]


def _scan_mixes(a, x, initial):
    return scan(a, (1 - a) * x, initial)


def _scan_cases() -> tuple[Case, ...]:
    random = _random(3)

    def case(label: str, *shape: int) -> Case:
        batch, _, *width = shape
        return Case((random(*shape).sigmoid(), random(*shape), random(batch, *width)), label=label)

    return (
        Case(
            (_numbers(0.5, 2, 10)[None], torch.ones(1, 3).double(), _numbers(2)),
            label="a = 0.5, 2, 10; x = 1, 1, 1; the state before is 2",
        ),
        case("two sequences of 5, states (3, 4)", 2, 5, 3, 4),
        case("one step", 3, 1, 2),
        case("states that are single numbers", 4, 6),
    )


# --- selection -----------------------------------------------------------------------------------


def selective_step(
    h: Tensor, u: Tensor, raw_delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor
) -> tuple[Tensor, Tensor]:
    return _with_delta(F.softplus(raw_delta), h, u, A, B, C, D)


def _with_delta(delta, h, u, A, B, C, D):
    delta = delta[..., None]  # (batch, d_inner, 1)
    h = torch.exp(delta * A) * h + delta * B[:, None] * u[..., None]
    return (h * C[:, None]).sum(dim=-1) + D * u, h


def _selective_without_softplus(h, u, raw_delta, A, B, C, D):
    return _with_delta(raw_delta, h, u, A, B, C, D)


def _selective_exp_delta(h, u, raw_delta, A, B, C, D):
    return _with_delta(raw_delta.exp(), h, u, A, B, C, D)


def _selective_relu_delta(h, u, raw_delta, A, B, C, D):
    return _with_delta(raw_delta.relu(), h, u, A, B, C, D)


def _selective_constant_input(h, u, raw_delta, A, B, C, D):
    delta = F.softplus(raw_delta)[..., None]
    h = torch.exp(delta * A) * h + B[:, None] * u[..., None]
    return (h * C[:, None]).sum(dim=-1) + D * u, h


def _selective_old_state(h, u, raw_delta, A, B, C, D):
    _, new = selective_step(h, u, raw_delta, A, B, C, D)
    return (h * C[:, None]).sum(dim=-1) + D * u, new


def _selective_without_skip(h, u, raw_delta, A, B, C, D):
    y, h = selective_step(h, u, raw_delta, A, B, C, D)
    return y - D * u, h


def _selective_hold(h, u, raw_delta, A, B, C, D):
    delta = F.softplus(raw_delta)[..., None]
    A_bar = torch.exp(delta * A)
    h = A_bar * h + (A_bar - 1) / A * B[:, None] * u[..., None]
    return (h * C[:, None]).sum(dim=-1) + D * u, h


def _selective_swaps(h, u, raw_delta, A, B, C, D):
    return selective_step(h, u, raw_delta, A, C, B, D)


def _selective_cases() -> tuple[Case, ...]:
    random = _random(4)

    def case(label: str, batch: int, d_inner: int, d_state: int, scale: float = 1.0) -> Case:
        return Case(
            (
                random(batch, d_inner, d_state),
                random(batch, d_inner),
                scale * random(batch, d_inner),
                -random(d_inner, d_state).exp(),
                random(batch, d_state),
                random(batch, d_state),
                random(d_inner),
            ),
            label=label,
        )

    return (
        case("2 texts, 3 channels, 4 numbers in each state", 2, 3, 4),
        case("1 text, 5 channels, states of one number", 1, 5, 1),
        case("very short and very long steps", 4, 4, 4, 3.0),
        case("3 texts, 2 channels, states of 3", 3, 2, 3),
    )


# --- the gate ------------------------------------------------------------------------------------


def gated_mixer(mixer: MambaMixer, x: Tensor) -> Tensor:
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u) * F.silu(gate))


def early_gated_mixer(mixer: MambaMixer, x: Tensor) -> Tensor:
    """The faulty version: the gate stands before the state space."""
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u * F.silu(gate)))


def _gate_swapped(mixer, x):
    gate, u = mixer.in_proj(x).chunk(2, dim=-1)
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u) * F.silu(gate))


def _gate_plain(mixer, x):
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u) * gate)


def _gate_sigmoid(mixer, x):
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u) * gate.sigmoid())


def _gate_none(mixer, x):
    u, _ = mixer.in_proj(x).chunk(2, dim=-1)
    return mixer.out_proj(mixer.ssm(F.silu(mixer.conv(u))))


def _gate_added(mixer, x):
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u) + F.silu(gate))


def _gate_by_itself(mixer, x):
    u, _ = mixer.in_proj(x).chunk(2, dim=-1)
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u) * F.silu(u))


def _gate_twice(mixer, x):
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u * F.silu(gate)) * F.silu(gate))


def _gate_after(mixer, x):
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)
    y = mixer.ssm(F.silu(mixer.conv(u)))
    return mixer.out_proj(F.silu(y * gate))


def _gate_cases() -> tuple[Case, ...]:
    random = _random(5)

    def case(label: str, seed: int, batch: int, length: int, **sizes: int) -> Case:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = MambaConfig(vocab_size=9, num_layers=1, bias=True, **sizes)
            mixer = MambaMixer(config).double().requires_grad_(False)
        return Case((mixer, 2 * random(batch, length, config.d_model)), label=label)

    return (
        case("2 texts of 5 tokens, d_model 6", 0, 2, 5, d_model=6, d_state=3),
        case("one token", 1, 3, 1, d_model=4, d_state=2),
        case("9 tokens, three times as wide inside", 2, 1, 9, d_model=5, expand=3, d_conv=3),
    )


def _random(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def _one(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- all -----------------------------------------------------------------------------------------

EXERCISES = (
    Exercise(
        id="16.zero_order_hold",
        title="Zero-order hold",
        reference=zero_order_hold,
        cases=_hold_cases,
        mistakes=(
            Mistake(
                "A_bar minus A instead of minus 1",
                _hold_minus_A,
                "From exp(ΔA) subtract the identity, 1 for a single number, not A. Test it with a "
                "step of length 0: nothing can enter, so B_bar must be 0.",
            ),
            Mistake(
                "Euler's step for the input",
                _hold_euler_input,
                "ΔB holds the first term of the series only. During the step, what entered early "
                "has already begun to fade.",
            ),
            Mistake(
                "Euler's method for both",
                _hold_euler_both,
                "1 + ΔA is where exp(ΔA) begins. With Δ = 0.5 and A = -2 it is 0: the state would "
                "be gone after one step.",
            ),
            Mistake(
                "Δ stands in B_bar twice",
                _hold_delta_twice,
                "In (ΔA)⁻¹(exp(ΔA) - 1)ΔB one Δ cancels the other. For short steps B_bar must be "
                "about ΔB, not Δ²B.",
            ),
            Mistake(
                "Δ is missing in B_bar",
                _hold_delta_lost,
                "The Δ of (ΔA)⁻¹ meets another Δ before B. For short steps B_bar must be about ΔB, "
                "not B.",
            ),
            Mistake(
                "B_bar has the wrong sign",
                _hold_sign,
                "With A below 0, exp(ΔA) - 1 and A are both negative, so B_bar has the sign of B.",
            ),
            Mistake(
                "the step length is forgotten",
                _hold_one_second,
                "This is right for Δ = 1 only. A longer step must let the state fade more.",
            ),
            Mistake(
                "the bilinear rule",
                _hold_bilinear,
                "That is another discretisation (Tustin's, which S4 uses). Zero-order hold solves "
                "the equation exactly, so there is an exponential in it.",
            ),
        ),
        praise="For an input that stays constant during a step, it is the exact solution.",
    ),
    Exercise(
        id="16.convolve",
        title="A causal convolution",
        reference=convolve,
        cases=_convolve_cases,
        mistakes=(
            Mistake(
                "the kernel is flipped",
                _convolve_flipped,
                "kernel[0] belongs to the present, the last entry to the most distant past. "
                "PyTorch's conv1d reads a kernel the other way round.",
            ),
            Mistake(
                "padded on both sides",
                _convolve_centred,
                "An output now sees inputs that come after it. All the zeros belong before the "
                "first input.",
            ),
            Mistake(
                "the end wraps round to the beginning",
                _convolve_wraps,
                "`roll`, or a Fourier transform without room, lets the last inputs enter the first "
                "outputs. Pad with zeros.",
            ),
            Mistake(
                "it looks ahead",
                _convolve_ahead,
                "Output t may use inputs t, t-1, t-2, ... Yours uses t, t+1, t+2, ...",
            ),
            Mistake(
                "one step late",
                _convolve_late,
                "kernel[0] is the echo in the same step: the input at t enters the output at t.",
            ),
            Mistake(
                "the echo goes on after the end",
                _convolve_full,
                "The output is as long as the input. Cut off what comes later.",
            ),
        ),
        praise="Each output is a weighted sum of the present and the past.",
    ),
    Exercise(
        id="16.join",
        title="Two steps are one step",
        reference=join,
        cases=_join_cases,
        mistakes=(
            Mistake(
                "the order is reversed",
                _join_in_the_wrong_order,
                "`first` happens first: its input then passes through the decay of `second`.",
            ),
            Mistake(
                "the first input does not fade",
                _join_without_decay,
                "What the first step has put into the state is in the state when the second step "
                "comes.",
            ),
            Mistake(
                "the first input fades by its own factor",
                _join_with_first_decay,
                "x1 enters after a1 has been applied. Which factor meets it next? (Your rule is "
                "not associative either: join three steps in both ways.)",
            ),
            Mistake(
                "the second input fades, too",
                _join_decays_both,
                "x2 enters last. Nothing fades after it.",
            ),
            Mistake(
                "the factors are added",
                _join_adds_decays,
                "A state that is halved twice is a quarter. Factors multiply.",
            ),
            Mistake(
                "the old state fades once only",
                _join_keeps_second_decay,
                "The state from before both steps meets both factors.",
            ),
            Mistake(
                "both inputs fade",
                _join_crosses,
                "Write a2 (a1 h + x1) + x2 and multiply out: only one of the inputs gets a factor.",
            ),
        ),
        praise="With it, steps may be joined in any grouping: that is what makes a scan parallel.",
    ),
    Exercise(
        id="16.scan",
        title="The scan as a loop",
        reference=scan,
        cases=_scan_cases,
        mistakes=(
            Mistake(
                "the initial state is forgotten",
                _scan_forgets_initial,
                "Before the first step the state is `initial`, not 0. Otherwise a text cannot be "
                "read in pieces.",
            ),
            Mistake(
                "the initial state does not fade",
                _scan_adds_initial,
                "The initial state fades like everything in the state: start the loop with it.",
            ),
            Mistake(
                "each state is kept before its input has entered",
                _scan_shows_before,
                "The first result is the state *after* the first input.",
            ),
            Mistake(
                "it runs backward in time",
                _scan_backward,
                "The first state may depend on the first input only. Yours depends on all that "
                "follow: it leaks the future.",
            ),
            Mistake(
                "each step uses the next token's factor",
                _scan_next_decay,
                "h_t needs a_t. With a_{t+1} a token would know how the next one will fade: the "
                "future leaks.",
            ),
            Mistake(
                "the new input fades at once",
                _scan_decays_input,
                "a_t stands with the old state only. x_t enters as it is.",
            ),
            Mistake(
                "nothing fades",
                _scan_sums,
                "A running sum is the case a = 1.",
            ),
            Mistake(
                "only the last state is returned",
                _scan_last_only,
                "Each step's state is needed: (batch, length, ...).",
            ),
            Mistake(
                "the input is weighted by 1 - a",
                _scan_mixes,
                "That is a moving average. Here the two factors are independent: x_t enters as it "
                "is.",
            ),
        ),
        praise="Four lines, and as slow as they look: each step waits for the one before.",
    ),
    Exercise(
        id="16.selective_step",
        title="One step of a selective state space",
        reference=selective_step,
        cases=_selective_cases,
        mistakes=(
            Mistake(
                "softplus is forgotten",
                _selective_without_softplus,
                "A linear layer gives negative numbers, too. A negative step length would make the "
                "state grow.",
            ),
            Mistake(
                "Δ is an exponential",
                _selective_exp_delta,
                "exp is positive as well, but Mamba takes softplus, log(1 + exp(·)), which grows "
                "only linearly.",
            ),
            Mistake(
                "Δ is a ReLU",
                _selective_relu_delta,
                "ReLU makes many steps exactly 0, and no gradient ever wakes them up.",
            ),
            Mistake(
                "Δ does not scale the input",
                _selective_constant_input,
                "A step of length 0 must leave the state alone: nothing fades, *and nothing "
                "enters*.",
            ),
            Mistake(
                "the output reads the old state",
                _selective_old_state,
                "The token's own input must be in the state that is read.",
            ),
            Mistake(
                "D is forgotten",
                _selective_without_skip,
                "Part of the input passes by the state: + D u.",
            ),
            Mistake(
                "zero-order hold for B",
                _selective_hold,
                "That is the paper's formula. The exercise asks for what its code computes: "
                "B_bar = ΔB.",
            ),
            Mistake(
                "B and C are exchanged",
                _selective_swaps,
                "B writes into the state, C reads from it.",
            ),
        ),
        praise="Applied token after token, it is the heart of Mamba.",
    ),
    Exercise(
        id="16.gate",
        title="Find the bug: the gate",
        reference=gated_mixer,
        start=early_gated_mixer,
        cases=_gate_cases,
        mistakes=(
            Mistake(
                "the halves are exchanged",
                _gate_swapped,
                "The first half goes through the convolution and the state space, the second is "
                "the gate.",
            ),
            Mistake(
                "the gate has no SiLU",
                _gate_plain,
                "The right place, but the gate passes through SiLU before it multiplies.",
            ),
            Mistake(
                "the gate is a sigmoid",
                _gate_sigmoid,
                "The right place, but Mamba's gate is a SiLU, x · sigmoid(x).",
            ),
            Mistake(
                "there is no gate",
                _gate_none,
                "Now half of what `in_proj` computes is thrown away.",
            ),
            Mistake(
                "the gate is added",
                _gate_added,
                "A gate multiplies: where it is 0, nothing passes.",
            ),
            Mistake(
                "the branch gates itself",
                _gate_by_itself,
                "The gate is the other half of `in_proj`, which has seen no other token.",
            ),
            Mistake(
                "gated twice",
                _gate_twice,
                "One multiplication is one too many. Which one changes what the state remembers?",
            ),
            Mistake(
                "SiLU around the product",
                _gate_after,
                "SiLU belongs to the gate alone.",
            ),
        ),
        praise="The state remembers what the token says; the gate decides what of it is shown.",
    ),
)
