"""Features found in flags, and the product timed in a fresh Python."""

from __future__ import annotations

import platform
from types import SimpleNamespace

import pytest
import torch

from zoo_lessons.deploy import hardware


def test_x86():
    found = hardware.detect({"sse2", "avx2", "avx512f", "avx512_vnni"})
    assert found == {
        "AVX2": True,
        "AVX-512": True,
        "VNNI": True,
        "AVX-512 bf16": False,
        "AMX": False,
    }
    assert hardware.detect({"avx2", "avx_vnni"})["VNNI"]


@pytest.mark.parametrize(
    "flags",
    [
        {"asimd", "asimddp", "bf16"},
        {"hw.optional.neon", "hw.optional.arm.FEAT_DotProd", "hw.optional.arm.FEAT_BF16"},
    ],
)
def test_arm(flags):
    found = hardware.detect(flags)
    assert found["NEON"] and found["Arm dot product"] and found["Arm bf16"]
    assert not found["SVE"] and "AVX2" not in found


def test_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(hardware, "processor_flags", lambda: None)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert hardware.detect() == {"AVX2": True, "AVX-512": False}


def test_macos(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "Path", lambda _: tmp_path / "none")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    told = "hw.optional.neon: 1\nhw.optional.arm.FEAT_BF16: 0\nhw.optional.arm.FEAT_DotProd: 1\n"
    monkeypatch.setattr(hardware.subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=told))
    assert hardware.processor_flags() == {"hw.optional.neon", "hw.optional.arm.FEAT_DotProd"}
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    assert hardware.processor_flags() is None


@pytest.mark.skipif(platform.system() != "Linux", reason="/proc/cpuinfo is Linux's")
def test_this_machine():
    found = hardware.detect()
    assert found and all(isinstance(value, bool) for value in found.values())
    level = torch.backends.cpu.get_cpu_capability()
    if level in ("AVX2", "AVX512"):
        assert found["AVX2"]


def test_tensor_cores(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hardware.tensor_cores() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, expected in {
        (6, 1): "none",
        (7, 5): "fp16, int8",
        (9, 0): "fp16, int8, bf16 and TF32, fp8",
    }.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda c=capability: c)
        assert hardware.tensor_cores() == expected


def test_products_in_a_fresh_python():
    found = hardware.product_times({}, rounds=3, threads=1)
    assert list(found) == ["fp32", "bf16", "int8"]
    assert all(0 < seconds < 60 for seconds in found.values())
