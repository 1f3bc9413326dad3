"""LayerNorm and GELU in every form, the kernels that the compiler makes, and what they cost."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch

from zoo_lessons.deploy import fuse
from zoo_lessons.deploy.roofline import count_traffic

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def inputs(width, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = 3 + 2 * torch.randn(4, 3, width, generator=generator, dtype=dtype)
    return x, *torch.randn(2, width, generator=generator, dtype=dtype)


def test_written_out_is_pytorchs():
    x, weight, bias = inputs(20)
    found = fuse.norm_gelu_written_out(x, weight, bias, 1e-3)
    torch.testing.assert_close(found, fuse.norm_gelu(x, weight, bias, 1e-3))


def test_each_form_moves_less():
    x, weight, bias = inputs(64, torch.float32)
    apart, two = (
        count_traffic(lambda form=form: form(x, weight, bias))
        for form in (fuse.norm_gelu_written_out, fuse.norm_gelu)
    )
    one = fuse.fused_cost(12, 64)
    assert one.read == x.nbytes + weight.nbytes + bias.nbytes and one.written == x.nbytes
    assert [kernel.name for kernel in two.kernels] == ["native_layer_norm", "gelu"]
    assert apart.bytes > 5 * two.bytes
    assert 1.7 < two.bytes / one.bytes < 2


@pytest.mark.skipif(fuse.cpp_compiler() is None, reason="no C++ compiler")
def test_the_compiler_makes_one_kernel_of_all_steps():
    x, weight, bias = inputs(40, torch.float32)
    result, kernels = fuse.generated_kernels(fuse.norm_gelu_written_out, x, weight, bias)
    torch.testing.assert_close(result, fuse.norm_gelu(x, weight, bias))
    assert len(kernels) == 1
    assert "mean" in kernels[0] and "erf" in kernels[0]


def test_without_a_compiler_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(fuse, "cpp_compiler", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="install g"):
        fuse.generated_kernels(fuse.norm_gelu, *inputs(4))


@needs_triton
@pytest.mark.parametrize("width", [1, 7, 64, 100])
def test_triton_kernel(width):
    from zoo_lessons.deploy import triton_kernels

    x, weight, bias = inputs(width, torch.float32)
    found = triton_kernels.norm_gelu(x, weight, bias, 1e-3)
    torch.testing.assert_close(found, fuse.norm_gelu(x, weight, bias, 1e-3))
    assert triton_kernels.norm_gelu(x[:0], weight, bias).shape == (0, 3, width)
    # not contiguous: every second row
    rows = x[::2]
    torch.testing.assert_close(
        triton_kernels.norm_gelu(rows, weight, bias), fuse.norm_gelu(rows, weight, bias)
    )
    with pytest.raises(ValueError, match="must have x's width"):
        triton_kernels.norm_gelu(x, weight[:-1], bias)


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU compiles the kernel")
def test_triton_imported_too_early_is_reported():
    code = (
        "import os; os.environ.pop('TRITON_INTERPRET', None); import triton.language;"
        "import zoo_lessons.deploy.triton_kernels"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "restart Python" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_graph_needs_a_gpu():
    with pytest.raises(RuntimeError, match="sees none"):
        fuse.cuda_graph(torch.relu, torch.ones(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_graph_follows_its_arguments():
    replay = fuse.cuda_graph(torch.relu, torch.ones(3, device="cuda"))
    for value in (-2.0, 5.0):
        found = replay(torch.full((3,), value, device="cuda"))
        assert found.tolist() == [max(value, 0.0)] * 3
