"""What the processor was built for: find its instruction sets, and see what they do.

A program of its own, `python -m zoo_lessons.deploy.hardware`, times one product in float32,
bfloat16 and int8 and prints JSON. Libraries choose their instructions when they start; so to take
some away, `product_times` starts that program anew with `ONEDNN_MAX_CPU_ISA` set.

Source: the oneDNN documentation, "CPU Dispatcher Control".
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.mkldnn import to_mkldnn

from zoo_lessons.bench import compare
from zoo_lessons.deploy.quantized_layers import integer_matmul


@dataclass(frozen=True)
class Feature:
    """Something that a processor may have for deep learning.

    Attributes:
        flags: what Linux calls it (/proc/cpuinfo), or macOS (sysctl, hw.optional.*). Any will do.
        does: in one line.
    """

    flags: tuple[str, ...]
    does: str


FEATURES: dict[str, Feature] = {
    "AVX2": Feature(("avx2",), "8 float32 numbers an instruction"),
    "AVX-512": Feature(("avx512f",), "16 float32 numbers an instruction"),
    "VNNI": Feature(
        ("avx512_vnni", "avx_vnni"), "int8: multiplies fours and adds them up, in int32"
    ),
    "AVX-512 bf16": Feature(("avx512_bf16",), "bfloat16: multiplies pairs and adds, in float32"),
    "AMX": Feature(("amx_tile",), "a product of small int8 or bfloat16 matrices an instruction"),
    "NEON": Feature(("asimd", "neon", "hw.optional.neon", "hw.optional.AdvSIMD"), "Arm: 4 float32"),
    "SVE": Feature(("sve",), "Arm: vectors of the processor's own length"),
    "Arm dot product": Feature(
        ("asimddp", "hw.optional.arm.FEAT_DotProd"), "int8: multiplies fours and adds them up"
    ),
    "Arm bf16": Feature(
        ("bf16", "hw.optional.arm.FEAT_BF16"), "bfloat16: a product of small matrices"
    ),
    "SME": Feature(("sme", "hw.optional.arm.FEAT_SME"), "Arm: outer products of whole vectors"),
}


def processor_flags() -> set[str] | None:
    """The processor's feature flags; None where the system does not tell them (Windows)."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.split(":")[0].strip() in ("flags", "Features"):
                return set(line.split(":", 1)[1].split())
        return set()
    if platform.system() == "Darwin":
        told = subprocess.run(
            ["sysctl", "hw.optional"], capture_output=True, text=True, check=True
        ).stdout
        pairs = (line.split(":", 1) for line in told.splitlines() if ":" in line)
        return {name.strip() for name, value in pairs if value.strip() == "1"}
    return None


def detect(flags: set[str] | None = None) -> dict[str, bool]:
    """Which of `FEATURES` this processor has, of those that belong to its kind.

    Where the system does not tell, what PyTorch found for itself must do: then AVX2 and AVX-512
    are known, and the rest is not listed.

    Args:
        flags: for tests; by default `processor_flags()`.
    """
    flags = processor_flags() if flags is None else flags
    if flags is None:
        level = torch.backends.cpu.get_cpu_capability()
        return {"AVX2": level in ("AVX2", "AVX512"), "AVX-512": level == "AVX512"}
    arm = bool(flags & {*FEATURES["NEON"].flags})
    of_arm = {"NEON", "SVE", "Arm dot product", "Arm bf16", "SME"}
    return {
        name: any(flag in flags for flag in feature.flags)
        for name, feature in FEATURES.items()
        if (name in of_arm) == arm
    }


def tensor_cores() -> str | None:
    """What the GPU's matrix units can do, by its compute capability; None without an NVIDIA GPU."""
    if not torch.cuda.is_available():
        return None
    kinds = {  # compute capability from which on; NVIDIA's CUDA programming guide
        (7, 0): "fp16",
        (7, 2): "int8",
        (8, 0): "bf16 and TF32",
        (8, 9): "fp8",
    }
    capability = torch.cuda.get_device_capability()
    have = [kind for since, kind in kinds.items() if capability >= since]
    return ", ".join(have) or "none"


# --- shown by their effect -----------------------------------------------------------------------

ROWS, WIDTH = 512, 768  # 512 tokens of BERT-Base's width
LEVELS: dict[str, dict[str, str]] = {
    "all": {},
    "AVX-512 without VNNI and bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
}


def product_times(
    environment: Mapping[str, str], *, rounds: int = 5, threads: int | None = None
) -> dict[str, float]:
    """Median seconds of one product in each precision, in a fresh Python with these variables.

    Raises:
        subprocess.CalledProcessError: that Python failed.
    """
    threads = threads or torch.get_num_threads()
    command = [sys.executable, "-m", "zoo_lessons.deploy.hardware", str(rounds), str(threads)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def time_products(rounds: int) -> dict[str, float]:
    """Median seconds of (512, 768) @ (768, 768) in float32, bfloat16 and int8.

    All three go through oneDNN, which `ONEDNN_MAX_CPU_ISA` governs. PyTorch gives float32 products
    to another library, MKL, unless the tensors are in oneDNN's own layout, as here.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, WIDTH, generator=generator)
    linear = nn.Linear(WIDTH, WIDTH, bias=False).eval()
    a, b = (
        torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)
        for shape in ((ROWS, WIDTH), (WIDTH, WIDTH))
    )
    half, weight = x.bfloat16(), linear.weight.detach().bfloat16()
    converted, inside = to_mkldnn(linear), x.to_mkldnn()
    with torch.no_grad():
        comparison = compare(
            {
                "fp32": lambda: converted(inside),
                "bf16": lambda: nn.functional.linear(half, weight),
                "int8": lambda: integer_matmul(a, b),
            },
            rounds=rounds,
            warmup=1,
            target_seconds=0.01,
        )
    return {name: comparison.median(name) for name in comparison.names}


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps(time_products(int(sys.argv[1]))))
