"""State spaces: discretisation against the exact solution, four scans, convolution, selection."""

import math

import pytest
import torch

from zoo_lessons.layers.ssm import (
    CausalConv,
    DiagonalSSM,
    SelectiveSSM,
    discretise,
    linear_scan,
    scan_loop,
    scan_parallel,
    selective_scan,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def recurrence(length, *, batch=2, width=(3, 2)):
    a = random(batch, length, *width, seed=1).sigmoid()
    return a, random(batch, length, *width, seed=2), random(batch, *width, seed=3)


def test_zero_order_hold_is_the_exact_solution():
    """h' = a h + b x with constant x, in ten thousand small steps."""
    a, b, x, h0, delta = -1.7, 0.6, 2.5, -0.4, 0.8
    h, steps = h0, 200_000
    for _ in range(steps):
        h += delta / steps * (a * h + b * x)
    A_bar, B_bar = discretise(*(torch.tensor(value).double() for value in (delta, a, b)))
    assert (A_bar * h0 + B_bar * x).item() == pytest.approx(h, abs=1e-5)


def test_discretisation_against_the_matrix_exponential():
    """exp of [[A, B], [0, 0]] Δ holds A_bar and B_bar side by side, for any diagonal A."""
    delta, A, B = torch.tensor(0.3).double(), -random(5).exp(), random(5, seed=1)
    A_bar, B_bar = discretise(delta, A, B)
    block = torch.zeros(6, 6).double()
    block[:5, :5], block[:5, 5] = A.diag(), B
    expected = torch.matrix_exp(delta * block)
    torch.testing.assert_close(A_bar.diag(), expected[:5, :5])
    torch.testing.assert_close(B_bar, expected[:5, 5])


def test_euler_is_the_first_term():
    A, B = -random(7).exp(), random(7, seed=1)
    for delta, bound in ((1e-1, 0.5), (1e-3, 5e-3), (1e-5, 5e-5)):
        delta = torch.tensor(delta).double()
        exact, euler = discretise(delta, A, B), discretise(delta, A, B, method="euler")
        assert torch.equal(exact[0], euler[0])
        torch.testing.assert_close(euler[1], delta * B, rtol=0, atol=0)
        assert (1e-9 < (euler[1] / exact[1] - 1).abs()).all()
        assert ((euler[1] / exact[1] - 1).abs() < bound).all()


def test_discretisation_at_and_near_zero():
    one = torch.tensor(1.0).double()
    assert discretise(one, 0 * one, 3 * one)[1] == 3
    z = torch.tensor([0.0, -1e-9, -1e-4, -9.99e-3, -1.001e-2, -1.0, -30.0], dtype=torch.float64)
    B_bar = discretise(one, z, one)[1]
    quotients = [math.expm1(v) / v for v in z[1:].tolist()]
    expected = torch.tensor([1.0, *quotients], dtype=torch.float64)
    torch.testing.assert_close(B_bar, expected, rtol=1e-13, atol=0)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: discretise(one, z, one)[1], z)
    discretise(one, z, one)[1].sum().backward()
    assert z.grad[0] == 0.5  # of (exp(z) - 1) / z = 1 + z / 2 + ...


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 13, 64, 100])
@pytest.mark.parametrize("start", [False, True])
def test_scans_agree(length, start):
    a, x, initial = recurrence(length)
    initial = initial if start else None
    expected = scan_loop(a, x, initial)
    for scan in (
        scan_parallel(a, x, initial),
        linear_scan(a, x, initial, parallel=False),
        linear_scan(a, x, initial, parallel=True),
    ):
        torch.testing.assert_close(scan, expected, rtol=1e-12, atol=1e-12)


def test_scan_by_hand():
    a = torch.tensor([[0.5, 2.0, 10.0]])
    x = torch.tensor([[1.0, 1.0, 1.0]])
    expected = torch.tensor([[2.0, 5.0, 51.0]])
    assert torch.equal(scan_loop(a, x, torch.tensor([2.0])), expected)
    assert torch.equal(scan_parallel(a, x, torch.tensor([2.0])), expected)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("width", [(), (2,)])
def test_gradient_of_the_scan(parallel, length, width):
    inputs = [t.requires_grad_() for t in recurrence(length, width=width)]

    def scan(*inputs):
        return linear_scan(*inputs, parallel=parallel)

    assert torch.autograd.gradcheck(scan, inputs)
    assert torch.autograd.gradgradcheck(scan, inputs)


@pytest.mark.parametrize("parallel", [False, True])
def test_gradient_equals_that_of_the_loop(parallel):
    found = []
    for scan in (scan_loop, lambda *x: linear_scan(*x, parallel=parallel), scan_parallel):
        inputs = [t.requires_grad_() for t in recurrence(37)]
        (scan(*inputs) * random(2, 37, 3, 2, seed=9)).sum().backward()
        found.append([t.grad for t in inputs])
    for grads in found[1:]:
        torch.testing.assert_close(grads, found[0], rtol=1e-11, atol=1e-12)


def test_gradient_reaches_one_a_for_all_steps():
    """A state space that treats all tokens alike: a broadcasts, and its gradients add up."""
    _, x, _ = recurrence(9)
    a = random(3, 2, seed=4).sigmoid().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, x: linear_scan(a, x), (a, x.requires_grad_()))


def scan_inputs(length=11, d_inner=3, d_state=2):
    return (
        random(2, length, d_inner),
        random(2, length, d_inner, seed=1).exp(),
        -random(d_inner, d_state, seed=2).exp(),
        random(2, length, d_state, seed=3),
        random(2, length, d_state, seed=4),
        random(d_inner, seed=5),
    )


@pytest.mark.parametrize("method", ["zoh", "euler"])
@pytest.mark.parametrize("chunk", [1, 4, 256])
def test_selective_scan_is_the_recurrence(method, chunk):
    u, delta, A, B, C, D = scan_inputs()
    initial = random(2, 3, 2, seed=6)
    y, last = selective_scan(u, delta, A, B, C, D, initial=initial, method=method, chunk=chunk)
    h = initial
    for t in range(11):
        A_bar, B_bar = discretise(delta[:, t, :, None], A, B[:, t, None], method=method)
        h = A_bar * h + B_bar * u[:, t, :, None]
        torch.testing.assert_close(y[:, t], (h * C[:, t, None]).sum(-1) + D * u[:, t])
    torch.testing.assert_close(last, h)


def test_gradient_of_the_selective_scan():
    inputs = [t.requires_grad_() for t in scan_inputs(length=5)]
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, chunk=3), inputs)
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, method="zoh")[0], inputs)


def layer(kind):
    torch.manual_seed(0)
    return (SelectiveSSM(6, 4, 2) if kind is SelectiveSSM else DiagonalSSM(6, 4)).double()


@pytest.mark.parametrize("kind", [SelectiveSSM, DiagonalSSM])
@pytest.mark.parametrize("sizes", [[1] * 10, [4, 1, 5]])
def test_reading_in_pieces_changes_nothing(kind, sizes):
    ssm, u, state, outputs = layer(kind), random(2, 10, 6), None, []
    for part in u.split(sizes, dim=1):
        y, state = ssm.resume(part, state)
        outputs.append(y)
        assert state.shape == (2, 6, 4)
    torch.testing.assert_close(torch.cat(outputs, dim=1), ssm(u))


@pytest.mark.parametrize("kind", [SelectiveSSM, DiagonalSSM])
def test_the_future_changes_nothing(kind):
    ssm, u = layer(kind), random(1, 10, 6)
    changed = u.clone()
    changed[:, 6:] += 1
    before, after = ssm(u), ssm(changed)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert (before[:, 6:] - after[:, 6:]).abs().min() > 1e-4


def test_convolution_kernel_is_the_response_to_one_input():
    ssm = layer(DiagonalSSM)
    u = torch.zeros(1, 12, 6).double()
    u[:, 0] = 1
    echo, _ = ssm.resume(u, None)
    echo[:, 0] -= ssm.D
    torch.testing.assert_close(echo[0].T, ssm.kernel(12))


def test_only_selection_tells_tokens_apart():
    """The state space without selection is linear in its input; the selective one is not."""
    u, v = random(1, 8, 6), random(1, 8, 6, seed=1)
    for kind, linear in ((DiagonalSSM, True), (SelectiveSSM, False)):
        ssm = layer(kind)
        assert torch.allclose(ssm(u + v), ssm(u) + ssm(v)) == linear


def test_initial_steps_and_poles():
    torch.manual_seed(0)
    selective, diagonal = SelectiveSSM(500, 3, 2), DiagonalSSM(500, 3)
    softplus = torch.nn.functional.softplus(selective.dt_proj.bias)
    for ssm, delta in ((selective, softplus), (diagonal, diagonal.log_delta.exp())):
        torch.testing.assert_close(-ssm.A_log.exp()[7], torch.tensor([-1.0, -2.0, -3.0]))
        assert 0.000999 < delta.min() < 0.0012 and 0.09 < delta.max() < 0.1001
        assert delta.log().mean().exp().item() == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("bias", [False, True])
def test_causal_convolution(bias):
    conv, x = CausalConv(3, 4, bias).double(), random(2, 9, 3)
    if bias:
        torch.nn.init.normal_(conv.bias)
    y = conv(x)
    for t in range(9):
        expected = conv.bias.clone() if bias else torch.zeros(3).double()
        for back in range(min(4, t + 1)):
            expected = expected + conv.weight[:, 0, 3 - back] * x[:, t - back]
        torch.testing.assert_close(y[:, t], expected.expand(2, 3))
    first, before = conv.resume(x[:, :2], None)
    second, before = conv.resume(x[:, 2:], before)
    torch.testing.assert_close(torch.cat([first, second], dim=1), y)
    assert torch.equal(before, x[:, -3:])


def test_convolution_of_one_token():
    conv, x = CausalConv(3, 1).double(), random(2, 5, 3)
    y, before = conv.resume(x, None)
    torch.testing.assert_close(y, x * conv.weight[:, 0, 0] + conv.bias)
    assert before.shape == (2, 0, 3)


def test_errors():
    a, x, initial = recurrence(4)
    with pytest.raises(ValueError, match=r"a has shape \(2, 3, 3, 2\) and x \(2, 4, 3, 2\)"):
        scan_loop(a[:, 1:], x)
    with pytest.raises(ValueError, match="with at least one step"):
        scan_parallel(a[:, :0], x[:, :0])
    with pytest.raises(ValueError, match=r"initial has shape \(1, 3, 2\), expected \(2, 3, 2\)"):
        linear_scan(a, x, initial[:1])
    with pytest.raises(ValueError, match="method='bilinear', expected one of zoh, euler"):
        discretise(x, a, x, method="bilinear")
    u, delta, A, B, C, D = scan_inputs()
    with pytest.raises(ValueError, match="method='rk4'"):
        selective_scan(u, delta, A, B, C, method="rk4")
    with pytest.raises(ValueError, match=r"B has shape \(2, 10, 2\), expected \(2, 11, 2\)"):
        selective_scan(u, delta, A, B[:, 1:], C)
    with pytest.raises(ValueError, match="u has shape .* last axis 3"):
        selective_scan(u[..., 1:], delta, A, B, C)
    with pytest.raises(ValueError, match="u holds 1 NaN"):
        u[0, 0, 0] = math.nan
        selective_scan(u, delta, A, B, C)
    with pytest.raises(ValueError, match="chunk=0 and 11 tokens"):
        selective_scan(scan_inputs()[0], delta, A, B, C, chunk=0)
