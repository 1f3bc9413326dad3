"""The course's interactive pictures. Each is imported only when a lesson asks for it."""

from __future__ import annotations

import importlib
from typing import Any

# class or function -> module in this package
_EXPORTS = {
    "Answer": "ask_box",
    "AskBox": "ask_box",
    "AttentionExplorer": "attention_explorer",
    "CaptionExplorer": "caption_explorer",
    "ImageSearch": "image_search",
    "InterleaveExplorer": "interleave_explorer",
    "MaskExplorer": "mask_explorer",
    "MaskedImageExplorer": "masked_image_explorer",
    "MaskingExplorer": "masking_explorer",
    "MixExplorer": "mix_explorer",
    "OnlineSoftmaxExplorer": "online_softmax_explorer",
    "PatchExplorer": "patch_explorer",
    "PatienceExplorer": "patience_explorer",
    "PipelineExplorer": "pipeline_explorer",
    "PlanExplorer": "plan_explorer",
    "PositionExplorer": "position_explorer",
    "QuantizationExplorer": "quantization_explorer",
    "ReportCard": "report_card",
    "RoPERotor": "rope_rotor",
    "SamplingExplorer": "sampling_explorer",
    "ScheduleExplorer": "schedule_explorer",
    "ServiceDashboard": "service_dashboard",
    "SimilarityExplorer": "similarity_explorer",
    "SoftmaxPlayground": "softmax_playground",
    "StateSpaceExplorer": "state_space_explorer",
    "TemperatureExplorer": "temperature_explorer",
    "WindowExplorer": "window_explorer",
    "ZooMap": "zoo_map",
    "ZooWidget": "base",
    "head_view": "bertviz",
    "model_view": "bertviz",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
