"""The table of memory: its counting by hand, and that it speaks of the settings files that exist."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from crossreid import config

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def memory():
    spec = importlib.util.spec_from_file_location("memory_benchmark", ROOT / "benchmarks" / "memory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_two_layers_keep(memory):
    """The first layer keeps its input, the rectifier its result, which is the second layer's input too."""
    network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    own = memory.storages(network.parameters())
    images = torch.randn(4, 5)
    assert memory.saved(lambda: network(images), own) == 4 * (4 * 5 + 4 * 7)
    with torch.no_grad():
        assert memory.saved(lambda: network(images), own) == 0


def test_what_is_always_there(memory):
    settings = config.load("small_folder")
    method = memory.build(settings, False)
    weights = sum(value.numel() for value in method.parameters())
    learned = sum(value.numel() for value in method.parameters() if value.requires_grad)
    others = sum(value.nbytes for value in method.buffers())
    assert memory.standing(method, settings.train.optimizers) == 4 * (weights + 3 * learned) + others  # Adam


@pytest.fixture(scope="module")
def measured(memory):
    return [memory.measure(config.load("small_folder"), *mode) for mode in memory.MODES]


def test_half_precision_and_recomputing_keep_less(memory, measured):
    for precision in (0, 2):  # with and without recomputing: half precision keeps less
        assert measured[precision + 1]["image"] < measured[precision]["image"]
    assert measured[2]["image"] < 0.9 * measured[0]["image"]
    assert measured[0]["image"] == memory.measure(config.load("small_folder"), "float32", False)["image"]


@pytest.mark.documents
def test_a_line_of_the_document_comes_out_again(memory, measured):
    written = (ROOT / "docs" / "results" / "memory.md").read_text(encoding="utf-8")
    assert memory.row("small_folder", config.load("small_folder"), measured) in written.splitlines()


@pytest.mark.documents
def test_every_visible_infrared_file_has_a_line():
    text = (ROOT / "docs" / "results" / "memory.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.M))
    bundled = set(config.bundled())
    assert named <= bundled
    assert {name for name in bundled if name.split("_")[0] in ("agw", "ddag", "mvd")} <= named
