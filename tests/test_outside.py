"""Parts from outside of the library, by package.module:Name, as docs/howto/your-own-parts.md has them."""

import importlib.util
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import torch
import yaml
from PIL import Image as PILImage

from crossreid import checkpoint, config, data, evaluation, methods, outside, synthetic
from crossreid.__main__ import main
from crossreid.data import augmentations
from crossreid.data.loading import Loader
from crossreid.methods.base import Progress
from crossreid.protocols.results import table
from crossreid.records import Batch, Embedding, Image, Labels, Metric, Trial, UserError

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


ODD = """
class Odd:
    def __init__(self, labels, identities, instances):
        self.images = len(labels)
    def __len__(self):
        return 2
class Empty(Odd):
    def epoch(self, rng):
        return iter(())
class Beyond(Odd):
    def epoch(self, rng):
        yield [0, self.images]
class Nested(Odd):
    def epoch(self, rng):
        yield [[0], [1]]
class Later(Odd):
    asked = 0
    def epoch(self, rng):
        self.asked += 1
        return iter([[0]] * (self.asked < 3))
class NoLength:
    def __init__(self, labels, identities, instances): ...
    def epoch(self, rng):
        yield [0]
def nothing(image, rng): ...
def each(features):
    return features.mean(1)
def number(targets):
    return 1.0
def misspelt(featurs):
    return featurs.mean()
class NoChannels(__import__("torch").nn.Identity): ...
"""


def test_a_part_that_gives_nothing_of_use_is_explained(folder):
    (folder / "own_parts.py").write_text(ODD, encoding="utf-8")
    outside.load_module("own_parts")
    zeros = np.zeros(8, np.int64)

    def loader(name):
        path = PILImage.new("RGB", (8, 16))
        path.save(folder / "0.png")
        settings = data.loading.DataConfig(workers=0, size=(16, 8))
        choice = data.loading.LoaderConfig(sampler=f"own_parts:{name}")
        images = [Image(folder / "0.png")] * 8
        return Loader(images, Labels(zeros, zeros, zeros, zeros), choice, settings, seed=1)

    for name, words in (
        ("Empty", "gives no batch in an epoch"),
        ("Beyond", r"indices of the 8 training images, from 0 to 7: \[0, 8\]"),
        ("Nested", "not a list of indices"),
        ("NoLength", "has no __len__: expected a class"),
    ):
        with pytest.raises(UserError, match=words):
            loader(name)
    later = loader("Later")  # which the check asked for once
    next(later)
    with pytest.raises(UserError, match="gives no batch"):
        next(later)
    with pytest.raises(UserError, match="own_parts:nothing with no options makes NoneType of an image"):
        augmentations.chosen(["own_parts:nothing"])
    for name, words in (
        ("each", r"gives a tensor of shape \(4,\): expected one number"),
        ("number", "gives float: expected one number"),
        ("misspelt", "'featurs'; of the batch a loss gets logits, features, targets"),
    ):
        with pytest.raises(UserError, match=words):
            checkpoint.build("baseline", {"backbone": "tiny", "losses": [f"own_parts:{name}"]}, 4)
    with pytest.raises(UserError, match="own_parts:NoChannels has no number of channels"):
        checkpoint.build("baseline", {"backbone": "own_parts:NoChannels", "pretrained": None}, 4)


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


def test_a_measure_is_a_column_of_the_results_and_what_it_says_a_heading(folder):
    """One of two queries has both of its images among its five nearest, the other one of three."""
    settings = config.load(folder / "own.yaml").evaluate
    assert settings.measures == ("own_parts:Among5",)
    kind = outside.find("own_parts:Among5")
    kind.result = lambda self, scores: {"counts": [sorted(counts) for counts in self.right]}
    assert type(evaluation.EvaluateConfig(measures=[kind]).measures[0]) is str
    people = [1, 2, 1, 1, 2, 3, 3, 2, 2]  # two queries at 0, then a gallery at 1 to 7
    images = [Image(folder / str(place), person, place) for place, person in enumerate(people)]
    trial = Trial("mine", np.arange(2), np.arange(2, 9), None)
    protocol = SimpleNamespace(images=images, cmc="image", average="trials", trials=lambda: [trial])
    embedding = Embedding(torch.tensor([0.0, *range(8)])[:, None])
    found = evaluation.score_subsets(protocol, embedding, Metric("euclidean"), settings)["mine"]
    assert found.verification == {"P@5": 1.5 / 5}
    assert found.results == {"own_parts:Among5": [{"subset": "mine", "counts": [[1, 2]]}]}
    assert "P@5" in table({"mine": found})


def test_a_measure_that_is_none_of_the_user_s_own_is_refused():
    with pytest.raises(UserError, match="names 'verification': expected measures of your own"):
        config.load({"method": {"name": "agw"}}, {"evaluate.measures": ["verification"]})


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
    measured = {"method": {"name": "agw"}, "evaluate": {"measures": [name]}}
    for read in (
        lambda: config.load(measured),
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


def test_a_data_set_of_one_s_own_is_checked_by_its_name_alone(folder, capsys):
    """What is typed on the command line is named by the user."""
    for number, side in enumerate(("train", "query", "gallery")):
        (folder / "crops" / side).mkdir(parents=True)
        white = PILImage.fromarray(np.full((8, 4, 3), 255, np.uint8))
        white.save(folder / "crops" / side / f"0007_c{number}_1.png")
    assert main(["data", "check", "own_parts:CROPS", "crops"]) == 0, capsys.readouterr().err
    assert "own_parts:CROPS in crops: complete" in capsys.readouterr().out


def test_what_cannot_be_had_is_said(folder):
    with pytest.raises(UserError, match=r"importing it failed .*: install its package"):
        config.load({"method": {"name": "agw"}}, {"data.name": "nowhere.at_all:SET"})
    (folder / "faulty_parts.py").write_text("import nothing_of_that_name", encoding="utf-8")
    with pytest.raises(UserError, match=r"No module named .nothing_of_that_name.*correct what it imports"):
        config.load({"method": {"name": "agw"}}, {"data.name": "faulty_parts:SET"})
    with pytest.raises(UserError, match="own_parts has no Three"):
        config.load({"method": {"name": "agw"}}, {"method.backbone": "own_parts:Three"})
    with pytest.raises(UserError, match="cannot be named"):
        config.load({"method": {"name": lambda: None}})
    assert not outside.named("timm:resnet18") and not outside.named("C:/data") and outside.named("a.b:C")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the package as pip installs it from a wheel."""
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    made = tmp_path_factory.mktemp("wheel")
    build = [*pip, "wheel", "--no-deps", *here, "--wheel-dir", str(made), str(HOWTO.parent.parent)]
    built = subprocess.run(build, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"no wheel can be built here: {built.stderr.strip().splitlines()[-1:]}")
    (wheel,) = made.glob("crossreid-*.whl")
    install = [*pip, "install", "--no-deps", "--quiet", "--target", str(made / "site"), str(wheel)]
    subprocess.run(install, check=True)
    return made / "site"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["baseline", "my_small:Small"])
def test_the_page_works_with_an_installed_wheel(folder, site, method):
    """In a folder outside of the package, with the package as pip installs it: trained, scored, exported and served."""

    def started(*words):
        environment = os.environ | {"PYTHONPATH": str(site)}
        how = {"cwd": folder, "env": environment, "text": True}
        command = [sys.executable, str(site / "bin" / "crossreid"), *words]
        return subprocess.Popen(command, **how, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def crossreid(*words, code=0):
        with started(*words) as done:
            said = done.communicate()[0]
        assert done.returncode == code, said
        return said

    synthetic.write("market1501", folder / "crops", identities=16, seed=1, progress=False)
    for theirs, ours in (("bounding_box_train", "train"), ("bounding_box_test", "gallery")):
        (folder / "crops" / theirs).rename(folder / "crops" / ours)
    settings = yaml.safe_load((folder / "own.yaml").read_text(encoding="utf-8"))
    needed = ["--import", "own_parts"]
    if method != "baseline":
        settings["method"] = {"name": method, "width": 8}
        needed += ["--import", "my_small"]
    (folder / "own.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    small = ["--data.size", "[64, 32]", "--data.workers", "1", "--train.epochs", "1"]
    said = crossreid("train", "own.yaml", "--run", "run", *small)
    assert ("own_parts:spread" in said) == (method == "baseline"), said
    assert f"--import {needed[-1]}" in crossreid("evaluate", "run/last.pt", code=2)
    said = crossreid("evaluate", "run/last.pt", *needed)
    assert re.search(r"Rank-1 .* P@5", said), said
    if method == "baseline":
        return
    models = {"run/last.pt": needed}
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxscript"):
        crossreid("export", "run/last.pt", "model", *needed)
        assert re.search(r"Rank-1 .* P@5", crossreid("evaluate", "model", *needed))
        models["model"] = []
    if any(importlib.util.find_spec(each) is None for each in ("fastapi", "uvicorn", "lancedb")):
        return
    image = next((folder / "crops" / "query").glob("*.jpg"))
    for model, named in models.items():
        place = f"{Path(model).name}.gallery"
        crossreid("index", model, "crops/gallery", "--gallery", place, *named)
        words = ["serve", model, "--gallery", place, "--port", "0", *named]
        with started(*words) as server:
            try:
                lines = iter(server.stdout.readline, "")
                address = next(line.split()[2] for line in lines if line.startswith("search page:"))
                files = {"image": (image.name, image.read_bytes())}
                answer = httpx.post(
                    f"{address.rstrip('/')}/api/search", files=files, data={"top": "3"}, timeout=60
                )
                assert answer.status_code == 200 and len(answer.json()["hits"]) == 3, answer.text
            finally:
                server.terminate()
