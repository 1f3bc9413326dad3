"""The door to the lab: what `lab.begin` sets, and what importing costs."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import types
import warnings

import matplotlib
import numpy as np
import pytest
import torch

from zoo_lessons import lab


@pytest.fixture
def untouched(monkeypatch):
    """Undo what `begin` sets for the whole process."""
    with monkeypatch.context() as patch, warnings.catch_warnings(), matplotlib.rc_context():
        patch.setattr(os, "environ", os.environ.copy())
        yield


def test_begin_fixes_the_seeds(untouched, capsys):
    def draw():
        return [random.random(), np.random.rand(), torch.rand(1).item()]

    lab.begin("01")
    first = draw()
    lab.begin("01")
    assert draw() == first
    lab.begin("01", seed=1)
    assert draw() != first
    assert capsys.readouterr().out.splitlines()[0] == "Lesson 01, Attention: ready."


def test_begin_rejects_an_unknown_lesson():
    with pytest.raises(KeyError, match="no lesson '77'"):
        lab.begin("77")


def test_begin_silences_known_warnings_and_no_others(untouched, recwarn):
    lab.begin("01")
    torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, norm_first=True), 1)
    assert not recwarn.list
    warnings.warn("something new", UserWarning, stacklevel=1)
    assert [str(w.message) for w in recwarn.list] == ["something new"]


def test_begin_keeps_what_the_user_set(untouched):
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ.pop("HF_HUB_DISABLE_TELEMETRY", None)
    lab.begin("01")
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_begin_sets_the_style(untouched):
    lab.begin("01")
    assert matplotlib.rcParams["image.cmap"] == "cividis"


@pytest.mark.parametrize("name", lab.__all__)
def test_every_name_is_a_function_not_its_module(name):
    value = getattr(lab, name)
    assert callable(value) and not isinstance(value, types.ModuleType)
    assert name in dir(lab)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'chekc'"):
        _ = lab.chekc


def test_importing_the_lab_is_light_and_offline():
    """No heavy library, and no socket: seconds at the start of a lesson are a learner's seconds."""
    code = (
        "import socket, sys, json\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from zoo_lessons import lab\n"
        "names = ('torch', 'transformers', 'matplotlib', 'sklearn', 'scipy', 'bertviz')\n"
        "print(json.dumps([name for name in names if name in sys.modules]))\n"
        "lab.begin('01')\n"
        "print(json.dumps([name for name in names if name in sys.modules]))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, _, after = run.stdout.splitlines()
    assert json.loads(before) == []
    assert json.loads(after) == ["torch", "matplotlib"]
    assert run.stderr == ""


def test_after_begin_transformers_and_torchao_are_quiet():
    code = "from zoo_lessons import lab; lab.begin('08')\nfrom transformers import BertModel\n"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}import torchao"], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
