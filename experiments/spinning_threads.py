"""A benchmark that disturbs itself: what ONNX Runtime's threads do to whoever is timed after them.

After a run, the threads of ONNX Runtime go on spinning for a while, to be quick when the next run
comes, unless `session.force_spinning_stop` is set. Who computes next on the same cores must share
them. Timed in turns, that is the competitor: here the same product of matrices in PyTorch. So the
comparison is interleaved, and unfair all the same.

Three kinds of company for PyTorch's product: itself, ONNX Runtime with its threads at rest, ONNX
Runtime spinning. "slowdown" is PyTorch's median time in that company over its median time alone;
"ratio" is ONNX Runtime's time over PyTorch's, as the comparison reports it; "control_interval" is
the A/A control, PyTorch's time over PyTorch's.

Timed: it needs a quiet machine. A few seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from zoo_lessons.bench import CONTROL, compare
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything

SHAPE = (128, 768, 3072)  # rows, d_in, d_out: a product of BERT-Base's feed-forward
LAYERS = 4
ROUNDS = 21
PYTORCH, RUNTIME = "PyTorch", "ONNX Runtime"
COMPANY = {"at rest": True, "spinning": False}


def weights() -> list[np.ndarray]:
    """`LAYERS` matrices (d_in, d_out) and back (d_out, d_in), in turns."""
    _, d_in, d_out = SHAPE
    shapes = [(d_in, d_out) if i % 2 == 0 else (d_out, d_in) for i in range(LAYERS)]
    return [(torch.randn(shape) / shape[0] ** 0.5).numpy() for shape in shapes]


def onnx_chain(matrices: list[np.ndarray]) -> bytes:
    """A file that multiplies its input by one matrix after the other."""
    names = [f"x{i}" for i in range(len(matrices) + 1)]
    nodes = [
        helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]])
        for i in range(len(matrices))
    ]
    shapes = [(SHAPE[0], matrices[0].shape[0]), (SHAPE[0], matrices[-1].shape[1])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip((names[0], names[-1]), shapes, strict=True)
    ]
    held = [numpy_helper.from_array(matrix, f"w{i}") for i, matrix in enumerate(matrices)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], held)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def runtime(model: bytes, x: np.ndarray, *, at_rest: bool) -> Callable[[], np.ndarray]:
    """Run the file on as many threads as PyTorch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    if at_rest:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x0": x})[0]


@experiment(
    "spinning_threads",
    lesson="24",
    uses=[
        "zoo_lessons.bench",
        "zoo_lessons.training.random_state",
    ],
)
def spinning_threads() -> dict[str, Any]:
    seed_everything(0)
    matrices = weights()
    model, tensors = onnx_chain(matrices), [torch.from_numpy(matrix) for matrix in matrices]
    x = torch.randn(SHAPE[0], SHAPE[1])

    @torch.inference_mode()
    def pytorch() -> torch.Tensor:
        y = x
        for matrix in tensors:
            y = y @ matrix
        return y

    alone = compare({PYTORCH: pytorch}, rounds=ROUNDS, target_seconds=0.0)
    found: dict[str, Any] = {
        "alone": {
            "milliseconds": 1e3 * alone.median(PYTORCH),
            "control_interval": list(alone.interval(CONTROL)),
        }
    }
    for name, at_rest in COMPANY.items():
        other = runtime(model, x.numpy(), at_rest=at_rest)
        np.testing.assert_allclose(other(), pytorch().numpy(), rtol=1e-3, atol=1e-3)
        times = compare({PYTORCH: pytorch, RUNTIME: other}, rounds=ROUNDS, target_seconds=0.0)
        found[name] = {
            "milliseconds": 1e3 * times.median(PYTORCH),
            "slowdown": times.median(PYTORCH) / alone.median(PYTORCH),
            "ratio": times.ratio(RUNTIME),
            "interval": list(times.interval(RUNTIME)),
            "control_interval": list(times.interval(CONTROL)),
        }
    return {"figures": {"shape": list(SHAPE), "layers": LAYERS, "rounds": ROUNDS, "company": found}}
