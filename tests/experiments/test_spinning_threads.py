"""The chain of products that ONNX Runtime and PyTorch are timed on."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import spinning_threads


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(spinning_threads, "SHAPE", (3, 8, 16))
    monkeypatch.setattr(spinning_threads, "LAYERS", 3)
    monkeypatch.setattr(spinning_threads, "ROUNDS", 3)


def test_the_file_multiplies_by_one_matrix_after_the_other():
    matrices = spinning_threads.weights()
    assert [matrix.shape for matrix in matrices] == [(8, 16), (16, 8), (8, 16)]
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)
    model = spinning_threads.onnx_chain(matrices)
    expected = x @ matrices[0] @ matrices[1] @ matrices[2]
    for at_rest in (True, False):
        found = spinning_threads.runtime(model, x, at_rest=at_rest)()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_each_company_has_its_figures():
    company = spinning_threads.spinning_threads()["figures"]["company"]
    assert list(company) == ["alone", "at rest", "spinning"]
    for name in ("at rest", "spinning"):
        found = company[name]
        low, high = found["interval"]
        assert low <= found["ratio"] <= high
        slowdown = found["milliseconds"] / company["alone"]["milliseconds"]
        assert found["slowdown"] == pytest.approx(slowdown)
