"""What bounds an operation: arithmetic or memory traffic. Counting both, and measuring the bounds.

A processor does at most so many floating-point operations a second, and moves at most so many
bytes a second. An operation that does `flops` and moves `bytes` takes at least the longer of the
two times. Which of them it is depends on flops / bytes, its arithmetic intensity.

Source: Williams, Waterman & Patterson, "Roofline: an insightful visual performance model for
multicore architectures" (2009). Bytes are counted as in STREAM (McCalpin 1995): each number that
is read or written once, whatever the caches do.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Cost:
    """Work of an operation: floating-point operations, and bytes read and written."""

    flops: float
    read: float
    written: float

    @property
    def bytes(self) -> float:
        return self.read + self.written

    @property
    def intensity(self) -> float:
        """FLOPs per byte moved."""
        return self.flops / self.bytes

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.read + other.read, self.written + other.written)


def matmul_cost(m: int, k: int, n: int, bytes_per_number: float = 4) -> Cost:
    """(m, k) @ (k, n): m·n sums of k products. Factors are read once, the result is written."""
    return Cost(2 * m * k * n, bytes_per_number * (m * k + k * n), bytes_per_number * m * n)


def elementwise_cost(
    numbers: int, inputs: int = 1, flops_each: float = 1, bytes_per_number: float = 4
) -> Cost:
    """One output number from one number of each of `inputs` tensors, with `flops_each` FLOPs."""
    moved = bytes_per_number * numbers
    return Cost(flops_each * numbers, inputs * moved, moved)


@dataclass(frozen=True)
class Roofline:
    """A processor's two bounds.

    Attributes:
        flops_per_second: of the largest matrix product.
        bytes_per_second: read and written together, from and to main memory.
    """

    flops_per_second: float
    bytes_per_second: float

    @property
    def ridge(self) -> float:
        """The intensity where the roofs meet: below it memory is the bound, above it arithmetic."""
        return self.flops_per_second / self.bytes_per_second

    def attainable(self, intensity: float) -> float:
        """FLOPs a second that an operation of this intensity can reach at most."""
        return min(self.flops_per_second, intensity * self.bytes_per_second)

    def seconds(self, cost: Cost) -> float:
        """The least time for this work."""
        return max(cost.flops / self.flops_per_second, cost.bytes / self.bytes_per_second)


# --- measuring the bounds ------------------------------------------------------------------------


def best_seconds(function: Callable[[], Any], rounds: int = 5) -> float:
    """Seconds of the fastest of some calls, after one that does not count.

    A bound is what the machine can do at best; noise only ever adds time.
    """
    function()
    times = []
    for _ in range(rounds):
        _wait()
        start = time.perf_counter()
        function()
        _wait()
        times.append(time.perf_counter() - start)
    return min(times)


def copy_bandwidth(size: int, *, moved: int = 2**28, rounds: int = 5) -> float:
    """Bytes a second that a copy of `size` bytes reads and writes.

    A small copy is repeated until about `moved` bytes have gone, and then finds its data in a
    cache. For main memory, `size` must be several times the largest cache.

    Raises:
        ValueError: a size below 4 bytes.
    """
    if size < 4:
        raise ValueError(f"size={size} bytes must hold at least one float32 number (4)")
    source = torch.ones(size // 4)
    target = torch.empty_like(source)
    repeats = max(1, moved // (2 * size))

    def copy() -> None:
        for _ in range(repeats):
            target.copy_(source)

    return 2 * 4 * source.numel() * repeats / best_seconds(copy, rounds)


def matmul_rate(size: int = 1024, dtype: torch.dtype = torch.float32, rounds: int = 5) -> float:
    """FLOPs a second of the product of two square matrices."""
    a, b = torch.randn(2, size, size).to(dtype)
    out = torch.empty(size, size, dtype=dtype)
    seconds = best_seconds(lambda: torch.mm(a, b, out=out), rounds)
    return matmul_cost(size, size, size).flops / seconds


def measure_roofline(
    size: int = 1024, copied: int = 2**26, rounds: int = 5, dtype: torch.dtype = torch.float32
) -> Roofline:
    """Measure this machine's CPU: a large matrix product, and a copy of `copied` bytes."""
    return Roofline(matmul_rate(size, dtype, rounds), copy_bandwidth(copied, rounds=rounds))


def rotate(copies: Sequence[Any], function: Callable[[Any], Any]) -> Callable[[], Any]:
    """A function that takes another copy of its input at each call.

    A timing loop on one small input finds it in the cache, as no model would: there, other layers
    have run since. With copies that together exceed the cache, each call reads from memory.
    """
    turn = itertools.cycle(copies)
    return lambda: function(next(turn))


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


# --- counting traffic ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernel:
    """One operation that PyTorch ran, and the bytes of the tensors that it took and gave."""

    name: str
    read: int
    written: int


@dataclass
class Traffic:
    """The operations of one call, in their order."""

    kernels: list[Kernel] = field(default_factory=list)

    @property
    def read(self) -> int:
        return sum(kernel.read for kernel in self.kernels)

    @property
    def written(self) -> int:
        return sum(kernel.written for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        return self.read + self.written


def count_traffic(function: Callable[[], Any]) -> Traffic:
    """Run a function, and note for each PyTorch operation the bytes that it reads and writes.

    Each input and each output counts once: what must pass between kernels, which know nothing of
    each other. Views (transpose, slice, expand) move nothing and do not appear; nor do tensors that
    are only allocated. What happens inside one kernel, such as a block that is read again, is not
    seen. Compiled functions do not tell their operations: count those by hand.
    """
    counter = _Counter()
    with torch.no_grad(), counter:
        function()
    return counter.traffic


class _Counter(TorchDispatchMode):
    """Sees every operation below autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        name = operation.overloadpacket.__name__
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        if name in _ONLY_ALLOCATE or not outputs:
            return result
        overwritten = _tensors(
            [
                args[i] if i < len(args) else kwargs.get(argument.name)
                for i, argument in enumerate(operation._schema.arguments)
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
        )
        if not overwritten and all(_is_among(x, inputs) for x in outputs):
            return result  # a view
        only_written = name in _OVERWRITE or operation._overloadname.endswith("out")
        read = [x for x in inputs if not (only_written and _is_among(x, overwritten))]
        self.traffic.kernels.append(Kernel(name, sum(map(_bytes, read)), sum(map(_bytes, outputs))))
        return result


_ONLY_ALLOCATE = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
_OVERWRITE = {"copy_", "fill_", "zero_", "normal_", "uniform_"}  # what was there is not read


def _tensors(tree: Any) -> list[Tensor]:
    """The tensors in a structure, each once."""
    found: dict[tuple, Tensor] = {}
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            found.setdefault((leaf.data_ptr(), leaf.shape, leaf.stride()), leaf)
    return list(found.values())


def _is_among(x: Tensor, tensors: Sequence[Tensor]) -> bool:
    return any(x.data_ptr() == other.data_ptr() for other in tensors)


def _bytes(x: Tensor) -> int:
    """Of the numbers that exist: an axis made by `expand` repeats the same ones."""
    numbers = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        numbers *= size if stride else min(size, 1)
    return numbers * x.element_size()
