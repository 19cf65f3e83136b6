"""Parts from outside of the library, by package.module:Name, as docs/howto/your-own-parts.md has them."""

import importlib.util
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from crossreid import checkpoint, config, data, methods, outside, synthetic
from crossreid.data import augmentations
from crossreid.data.loading import Loader
from crossreid.methods.base import Progress
from crossreid.records import Batch, Labels, UserError

HOWTO = Path(__file__).parent.parent / "docs" / "howto"


def block(page, kind):
    return re.search(rf"```{kind}\n(.*?)```", (HOWTO / page).read_text(encoding="utf-8"), re.S)[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files of the pages, from which one runs; what it imports is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_parts.py").write_text(block("your-own-parts.md", "python"), encoding="utf-8")
    (tmp_path / "own.yaml").write_text(block("your-own-parts.md", "yaml"), encoding="utf-8")
    (tmp_path / "my_small.py").write_text(block("adding-a-method.md", "python"), encoding="utf-8")
    yield tmp_path
    for name in ("own_parts", "my_small"):
        sys.modules.pop(name, None)
    outside._NAMED.clear()


def test_a_settings_file_names_a_backbone_a_loss_and_a_sampler(folder):
    settings = config.load(folder / "own.yaml")
    method = checkpoint.build("baseline", settings.method, 4)
    assert type(method.backbone).__name__ == "TwoLayers"
    targets = torch.arange(4).repeat_interleave(2)
    none = torch.zeros(8, dtype=torch.long)
    losses = method(Batch(torch.randn(8, 3, 64, 32), targets, none, none, none), "train", Progress())
    assert losses["own_parts:spread"].item() > 0
    names = yaml.safe_load(settings.to_yaml())
    assert names["data"]["loaders"]["train"]["sampler"] == "own_parts:Sorted"
    labels = Labels(targets.numpy(), *(np.zeros(8, np.int64) for _ in range(3)))
    loader = Loader([None] * 8, labels, settings.data.loaders["train"], settings.data, seed=1)
    assert [sorted(rows) == rows for rows in loader.sampler.epoch(np.random.default_rng(1))] == [True]
    assert data.get("own_parts:CROPS").title == "my crops"
    with pytest.raises(UserError, match="has no option 'wide'"):
        config_ = {"losses": [{"name": "own_parts:spread", "wide": 1}], "backbone": "own_parts:TwoLayers"}
        checkpoint.build("baseline", settings.method | config_, 4)


def test_a_settings_file_names_transforms(folder):
    settings = config.load(folder / "own.yaml")
    # Workers get them pickled, and import by that what only this process was told.
    theirs, own = pickle.loads(pickle.dumps(augmentations.chosen(settings.data.augment)))[0]
    assert type(theirs.transform).__name__ == "RandAugment" and theirs.transform.magnitude == 7
    white = np.full((8, 4, 3), 255, np.uint8)
    black = [(own(white, np.random.default_rng(seed)) == 0).all((1, 2)).sum() for seed in range(200)]
    assert set(black) == {0, 1} and 0.2 < np.mean(black) < 0.4
    with pytest.raises(UserError, match=r"own_parts:scratch with .* fails .*'probable'"):
        config.load(folder / "own.yaml", {"data.augment": [{"name": "own_parts:scratch", "probable": 1}]})


def test_a_checkpoint_stores_the_name_and_never_imports_it(folder):
    (folder / "a.yaml").write_text('method: {name: "my_small:Small", width: 8}\n', encoding="utf-8")
    settings = config.load(folder / "a.yaml")
    method = checkpoint.build(settings.method_name, settings.method, 4)
    assert methods.method_name(method) == "my_small:Small"
    assert config.load({"method": {"name": type(method)}}).method_name == "my_small:Small"
    checkpoint.save(folder / "a.pt", checkpoint.describe(method, methods.method_name(method)))
    assert type(checkpoint.load(folder / "a.pt")) is type(method)
    del sys.modules["my_small"]
    recorded = {"method": {"name": "my_small:Small"}}
    for read in (lambda: checkpoint.load(folder / "a.pt"), lambda: config.load(recorded)):
        with pytest.raises(UserError, match=r"do not import code by themselves.* --import my_small"):
            read()
    assert "my_small" not in sys.modules
    outside.load_module("my_small")
    assert checkpoint.load(folder / "a.pt").config.width == 8


@pytest.mark.parametrize("name", ["subprocess:getoutput", "own_parts:getoutput"])
def test_what_a_file_names_is_not_called_because_its_module_is_loaded(folder, name):
    """Settings from a checkpoint run no program, by a module that is always there or that the user trusts."""
    with open(folder / "own_parts.py", "a", encoding="utf-8") as file:
        file.write("from subprocess import getoutput\n")
    outside.load_module("own_parts")
    made = folder / "made"
    run = {"name": name, "cmd": f"touch {made}"}
    for read in (
        lambda: checkpoint.build("baseline", {"backbone": "tiny", "pretrained": None, "losses": [run]}, 4),
        lambda: checkpoint.build("baseline", {"backbone": name}, 4),
        lambda: augmentations.chosen([run]),
        lambda: config.load({"method": {"name": "agw"}, "data": {"augment": [run]}}),
    ):
        with pytest.raises(UserError, match=r"[Ii]f you trust it"):
            read()
    assert not made.exists()
    own = {"backbone": "own_parts:TwoLayers", "pretrained": None, "losses": ["cross_entropy"]}
    assert checkpoint.build("baseline", own, 4)


def test_a_path_is_no_part(folder):
    settings = {"method": {"name": "agw"}, "data": {"name": "market1501"}}
    assert (
        config.load(settings, {"data.roots.market1501": "own_parts:x"}).data.roots["market1501"]
        == "own_parts:x"
    )
    assert "own_parts" not in sys.modules


def test_what_cannot_be_had_is_said(folder):
    with pytest.raises(UserError, match="importing it failed"):
        config.load({"method": {"name": "agw"}}, {"data.name": "nowhere.at_all:SET"})
    with pytest.raises(UserError, match="own_parts has no Three"):
        config.load({"method": {"name": "agw"}}, {"method.backbone": "own_parts:Three"})
    with pytest.raises(UserError, match="cannot be named"):
        config.load({"method": {"name": lambda: None}})
    assert not outside.named("timm:resnet18") and not outside.named("C:/data") and outside.named("a.b:C")


@pytest.mark.slow
def test_the_page_works_with_an_installed_wheel(folder):
    """In a folder outside of the package, with the package as pip installs it: trained, scored and exported."""
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [
        *pip,
        "wheel",
        "--no-deps",
        *here,
        "--wheel-dir",
        str(folder / "wheels"),
        str(HOWTO.parent.parent),
    ]
    built = subprocess.run(build, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"no wheel can be built here: {built.stderr.strip().splitlines()[-1:]}")
    (wheel,) = (folder / "wheels").glob("crossreid-*.whl")
    site = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--quiet", "--target", str(site), str(wheel)], check=True)

    def crossreid(*words):
        environment = os.environ | {"PYTHONPATH": str(site)}
        command = [sys.executable, str(site / "bin" / "crossreid"), *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    synthetic.write("market1501", folder / "market", identities=16, seed=1, progress=False)
    small = ["--data.size", "[64, 32]", "--data.workers", "1", "--train.epochs", "1"]
    roots = ["--data.roots", f"{{market1501: {folder / 'market'}}}"]
    code, said = crossreid("train", "own.yaml", "--run", "run", *roots, *small)
    assert code == 0 and "own_parts:spread" in said, said
    code, said = crossreid("evaluate", "run/last.pt")
    assert code == 2 and "--import own_parts" in said
    code, said = crossreid("evaluate", "run/last.pt", "--import", "own_parts")
    assert code == 0 and "Rank-1" in said, said
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxscript"):
        code, said = crossreid("export", "run/last.pt", "model", "--import", "own_parts")
        assert code == 0 and (folder / "model" / "model.onnx").is_file(), said
