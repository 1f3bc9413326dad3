"""Our models as ONNX files, and ONNX Runtime to run them, in float32 and in INT8.

ONNX is a file format for a model's computation: operators, their order, the weights. PyTorch's
exporter follows the model once (`torch.export`) and writes what it did; a runtime reads the file,
rewrites the graph for the machine at hand, and needs no Python code of ours.

    path = export_onnx(model, {"input_ids": ids, "attention_mask": mask}, "model.onnx")
    small = quantize_dynamic_int8(path, "model.int8.onnx")
    logits = OnnxModel(small)(input_ids=ids, attention_mask=mask)["logits"]
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

PRODUCTS = ["MatMul"]  # the quantizer makes this of "Gemm", the other product of matrices


class OnnxModel:
    """A model in an ONNX file, run by ONNX Runtime on the CPU.

    Args:
        path: of the file.
        threads: for each operator; by default as many as PyTorch uses.

    Raises:
        FileNotFoundError: no such file.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None):
        if not Path(path).exists():
            raise FileNotFoundError(f"no ONNX file {path}: write it with export_onnx first")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.inter_op_num_threads = 1  # an encoder is a chain: nothing runs side by side
        options.log_severity_level = 3  # errors only
        # By default the threads go on spinning after a run, waiting for the next one, and take the
        # cores from whoever computes then: PyTorch, called right after it, takes twice its time.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.outputs = [each.name for each in self.session.get_outputs()]

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The inputs by the names they were exported with -> the outputs by name.

        Raises:
            ValueError: an input is missing, or one is not the model's.
        """
        if set(inputs) != set(self.inputs):
            raise ValueError(f"got the inputs {sorted(inputs)}, expected {sorted(self.inputs)}")
        arrays = {name: value.numpy() for name, value in inputs.items()}
        found = self.session.run(None, arrays)
        return {
            name: torch.from_numpy(value) for name, value in zip(self.outputs, found, strict=True)
        }


# --- export --------------------------------------------------------------------------------------


class _Fields(nn.Module):
    """A model of ours with its output object as a tuple: ONNX knows tensors only."""

    def __init__(self, model: nn.Module, inputs: list[str], outputs: list[str]):
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        output = self.model(**dict(zip(self.inputs, inputs, strict=True)))
        return tuple(getattr(output, name) for name in self.outputs)


def export_onnx(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    path: str | Path,
    *,
    fixed: Iterable[str] = (),
) -> Path:
    """Write a model to an ONNX file.

    Args:
        model: one whose forward returns an output object of this library, in eval mode.
        inputs: examples, by the names of forward's arguments. Their first axis is the batch, and
            an input of token ids or a mask has the length as its second; the file takes any batch
            and length. The example's own sizes must be at least 2, or the exporter takes the axis
            for a constant.
        path: where to write.
        fixed: names of axes, of "batch" and "length", to keep as they are in the example.

    Returns:
        The path.

    Raises:
        ValueError: a model in training mode (dropout would go into the file), or an example with
            a free axis of size 1.
    """
    if any(module.training for module in model.modules()):
        raise ValueError(f"{type(model).__name__} is in training mode: call model.eval() first")
    fixed = set(fixed)
    free = {name: _free_axes(value, fixed) for name, value in inputs.items()}
    for name, axes in free.items():
        short = [axis for index, axis in axes.items() if inputs[name].shape[index] < 2]
        if short:
            raise ValueError(
                f"{name} has shape {tuple(inputs[name].shape)}, expected at least 2 along "
                f"{' and '.join(short)}"
            )
    names = _tensor_fields(model, inputs)
    shapes = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in free.values())
    with _quiet_exporter():
        torch.onnx.export(
            _Fields(model, list(inputs), names).eval(),
            tuple(inputs.values()),
            f=str(path),
            dynamo=True,
            input_names=list(inputs),
            output_names=names,
            dynamic_shapes=(shapes,),
            external_data=False,
            verbose=False,
        )
    return Path(path)


def largest_difference(
    model: nn.Module, exported: OnnxModel, inputs: Mapping[str, Tensor]
) -> dict[str, float]:
    """For each output the largest difference to the model's own, relative to the largest output.

    Where there is an `attention_mask`, padded positions do not count.
    """
    with torch.no_grad():
        expected = model(**inputs)
    mask = inputs.get("attention_mask")
    found = {}
    for name, ours in exported(**inputs).items():
        theirs = getattr(expected, name)
        if mask is not None and ours.shape[:2] == mask.shape:
            ours, theirs = ours[mask.bool()], theirs[mask.bool()]
        found[name] = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    return found


def _free_axes(value: Tensor, fixed: set[str]) -> dict[int, str]:
    """Index -> name of the axes that may change."""
    axes = {0: "batch"}
    if value.ndim == 2 and not value.is_floating_point():
        axes[1] = "length"
    return {index: name for index, name in axes.items() if name not in fixed}


def _tensor_fields(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[str]:
    """Names of the output's fields that hold a tensor."""
    with torch.no_grad():
        output = model(**inputs)
    if not dataclasses.is_dataclass(output):
        raise ValueError(
            f"{type(model).__name__} returns a {type(output).__name__}, expected an output object "
            "with named fields, as the models of zoo_lessons return"
        )
    names = [field.name for field in dataclasses.fields(output)]
    return [name for name in names if isinstance(getattr(output, name), Tensor)]


# --- INT8 ----------------------------------------------------------------------------------------


def quantize_dynamic_int8(
    source: str | Path, target: str | Path, *, embeddings: bool = False
) -> Path:
    """INT8 products whose inputs get their range at each call.

    Weights: int8, symmetric, one scale for each output channel. Inputs: uint8, one grid for the
    whole tensor. Attention's own two products stay in float32: neither side is a weight.

    Args:
        source: a float32 model, as `export_onnx` writes it.
        target: where to write.
        embeddings: store tables of embeddings in int8 too, with one scale for the whole table.

    Returns:
        The target's path.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _prepared(source) as prepared, _quiet_exporter():
        quantize_dynamic(
            prepared,
            target,
            op_types_to_quantize=[*PRODUCTS, *(["Gather"] if embeddings else [])],
            per_channel=True,
            reduce_range=False,  # that is for processors without VNNI, whose sums can overflow
            weight_type=QuantType.QInt8,
        )
    return Path(target)


def quantize_static_int8(
    source: str | Path,
    target: str | Path,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    method: str = "minmax",
) -> Path:
    """INT8 products whose inputs' ranges are fixed beforehand, on calibration data.

    Weights as in `quantize_dynamic_int8`. Nothing is measured while the model runs.

    Args:
        source: a float32 model, as `export_onnx` writes it.
        target: where to write.
        batches: inputs to calibrate with, all of one shape. Never test data.
        method: "minmax", "percentile" (99.999 %) or "entropy".

    Returns:
        The target's path.

    Raises:
        ValueError: an unknown method, or no batches.
    """
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    if method not in methods:
        raise ValueError(f"method={method!r}, expected one of {', '.join(methods)}")
    reader = _Batches(batches)
    with _prepared(source) as prepared, _quiet_exporter():
        quantize_static(
            prepared,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=PRODUCTS,
            per_channel=True,
            reduce_range=False,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=methods[method],
            extra_options={"MatMulConstBOnly": True},
        )
    return Path(target)


class _Batches:
    """Batches as ONNX Runtime's calibration reads them: one dict of arrays after the other."""

    def __init__(self, batches: Iterable[Mapping[str, Tensor]]):
        self.arrays = [{name: x.numpy() for name, x in batch.items()} for batch in batches]
        if not self.arrays:
            raise ValueError("got no batches, expected at least one to calibrate with")
        self.rest = iter(self.arrays)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rest, None)

    def rewind(self) -> None:
        self.rest = iter(self.arrays)


def operators(path: str | Path) -> dict[str, int]:
    """How often each operator stands in an ONNX file, the most frequent first."""
    counts: dict[str, int] = {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@contextmanager
def _prepared(source: str | Path) -> Iterator[str]:
    """The file without the shapes that the exporter noted.

    The quantizer transposes weights and infers shapes anew; what was noted before then contradicts
    it wherever a weight is not square.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = onnx.load(str(source))
        del model.graph.value_info[:]
        path = str(Path(folder) / "prepared.onnx")
        onnx.save(model, path)
        yield path


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter and the quantizer log what a reader can do nothing about."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
