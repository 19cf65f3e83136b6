"""MetaBIN from the command line: its settings files, interrupted runs, two processes, and mistakes."""

import json

import pytest
import torch
import two_processes
import yaml
from conftest import rendered

from crossreid import checkpoint, config, synthetic, training
from crossreid.__main__ import main
from crossreid.data import on_device
from crossreid.data.provenance import LAYOUT_OF
from crossreid.methods.metabin import MetaBIN
from crossreid.report.generalization_table import COLUMNS, generalization_table

SOURCES = ("cuhk02", "cuhk03", "market1501", "dukemtmc", "cuhk_sysu")
TARGETS = ("grid", "viper", "prid2011", "ilids")
SMALL = {
    "data.size": [48, 24],
    "data.padding": 2,
    "data.workers": 0,
    "method.pretrained": None,
    "method.first_base_steps": 2,
    "train.epochs": 1,
    "train.device": "cpu",
    "train.threads": 1,
    "evaluate.examples": 1,
}


def words_of(settings):
    return [word for key, value in settings.items() for word in (f"--{key}", json.dumps(value))]


def lines_of(run, kind):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    """Folders of copies that other tests read too."""

    def of(*names):
        return {name: str(rendered(tmp_path_factory, name)) for name in names}

    return of


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Folders of copies with one image of a person in a camera."""
    made = {}

    def of(names, identities):
        for name in names:
            if (name, identities) not in made:
                root = tmp_path_factory.mktemp("copies") / name
                made[name, identities] = str(
                    synthetic.write(name, root, identities=identities, images=1, progress=False)
                )
        return {name: made[name, identities] for name in names}

    return of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sources", "targets", "people", "rows"),
    [
        ("metabin_dg_mobilenet", SOURCES, TARGETS, 10, ["GRID", "VIPeR", "PRID", "i-LIDS"]),
        ("metabin_dg_resnet", SOURCES, TARGETS, 10, ["GRID", "VIPeR", "PRID", "i-LIDS"]),
        ("metabin_market1501", ("market1501",), ("dukemtmc",), 10, ["Market-1501", "DukeMTMC-reID"]),
        ("metabin_dukemtmc", ("dukemtmc",), ("market1501",), 10, ["Market-1501", "DukeMTMC-reID"]),
    ],
)
def test_the_settings_file_trains_and_scores_from_the_command_line(
    name, sources, targets, people, rows, copies, tmp_path
):
    run, bundled = tmp_path / "run", config.load(name)
    domains = {"dukemtmc": 8, "market1501": 6}.get(sources[0], 5)
    loaders = {
        "train": {"sampler": "identity_chunks", "identities": people, "instances": 2},
        "meta": {"sampler": "domain_balanced", "identities": 2 * domains, "instances": 2},
    }
    given = SMALL | {
        "data.roots": copies((*sources, *targets), 12 if len(sources) > 1 else 40),
        "data.loaders": loaders,
    }
    if len(sources) > 1:
        given["protocol.folds"] = 2
    assert main(["train", name, "--run", str(run), *words_of(given)]) == 0
    (line,) = lines_of(run, "epoch")
    parts = ("train_", "test_")
    assert {name for name in line["losses"] if name.startswith("meta/")} == {"meta/total"} | {
        f"meta/{part}{loss}"
        for part, losses in zip(
            parts, (bundled.method["meta_train_losses"], bundled.method["meta_test_losses"])
        )
        for loss in losses
    }
    assert len(line["gates"]) == 53
    content = json.loads((run / "evaluation.json").read_text())
    assert sorted(row["subset"] for row in content["rows"]) == sorted(f"{LAYOUT_OF}{row}" for row in rows)
    seen = set(sources) & set(bundled.protocol["targets"])
    told = "not of an unseen domain" if seen else "none of these is tested on"
    assert told in content["protocol"]["description"] and "rendered" in content["protocol"]["provenance"]
    table = generalization_table({row["subset"]: row["trials"] for row in content["rows"]})
    assert "TPR@FPR=0.01" in table and "TPR@FAR=0.01" in table
    assert ("ALL_GRID_std" in table) == (len(sources) > 1)


@pytest.fixture(scope="session")
def tiny(roots, tmp_path_factory):
    """Settings of two epochs of three iterations on three domains, with their file."""
    tree = {
        "method": {"name": "metabin", "backbone": "tiny", "meta_train_domains": 2, "first_base_steps": 2},
        "data": {
            "name": ["market1501", "dukemtmc", "cuhk02"],
            "roots": roots("market1501", "dukemtmc", "cuhk02"),
            "size": [48, 24],
            "padding": 2,
            "workers": 0,
            "loaders": {
                "train": {"sampler": "identity_chunks", "identities": 9, "instances": 4},
                "meta": {"sampler": "domain_balanced", "identities": 6, "instances": 3},
            },
        },
        "protocol": {"name": "generalization", "targets": ["market1501"]},
        "train": {
            "epochs": 2,
            "device": "cpu",
            "threads": 1,
            "optimizers": {"main": {"lr": 0.02}, "gates": {"lr": 5.0, "momentum": 0, "weight_decay": 0}},
        },
        "evaluate": {"examples": 1},
    }
    path = tmp_path_factory.mktemp("metabin") / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory):
    run = tmp_path_factory.mktemp("metabin runs") / "whole"
    training.train(config.load(tiny), run, evaluate=False)
    return run


class Killed(BaseException):
    """The process is gone: nothing after this is run, as nothing catches it."""


def assert_same_run(run, other):
    one, two = (checkpoint.read(folder / "last.pt") for folder in (run, other))
    for key, value in two["weights"].items():
        assert torch.equal(one["weights"][key], value), key
    for name, optimizer in two["training"]["optimizers"].items():
        for number, state in optimizer["state"].items():
            for key, value in state.items():
                found = one["training"]["optimizers"][name]["state"][number][key]
                assert found is value is None or torch.equal(found, value), (name, key)
    assert one["training"]["loaders"] == two["training"]["loaders"]
    for line, wanted in zip(lines_of(run, "epoch"), lines_of(other, "epoch"), strict=True):
        for key in ("losses", "lrs", "gates"):
            assert line[key] == wanted[key]


@pytest.mark.parametrize("minutes", [15, 0])
def test_a_run_killed_in_the_meta_phase_resumes_bit_for_bit(tiny, whole, tmp_path, monkeypatch, minutes):
    """Dead between the virtual and the real step of the fifth iteration, the second of the second epoch. What was
    saved last is the end of the first epoch, or with ``save_minutes`` 0 the fourth iteration."""
    run, calls = tmp_path / "run", []
    inner = MetaBIN._inner_step

    def deadly(self, *given):
        calls.append(None)
        if len(calls) == lengths[0] + 2:
            raise Killed
        return inner(self, *given)

    lengths = [len(training_steps(whole)) // 2]
    assert lengths[0] >= 3
    with monkeypatch.context() as patched:
        patched.setattr(MetaBIN, "_inner_step", deadly)
        with pytest.raises(Killed):
            training.train(config.load(tiny, ["--train.save_minutes", str(minutes)]), run, evaluate=False)
    saved = checkpoint.read(run / "last.pt")["training"]
    assert (saved["epoch"], saved["iteration"]) == (1, 0 if minutes else 1)
    training.train(config.load(tiny), run, resume=True, evaluate=False)
    assert_same_run(run, whole)
    gates = [
        value for key, value in checkpoint.read(run / "last.pt")["weights"].items() if key.endswith("gate")
    ]
    assert any((value < 1).any() for value in gates)


def training_steps(run):
    """One entry for each meta step of a finished run."""
    return range(checkpoint.read(run / "last.pt")["training"]["loaders"]["meta"]["batch_index"])


def in_float64(patched):
    """A gate's gradient sums thousands of terms of both signs and its learning rate is 5: in float32 another
    order of these sums can move a gate from one end to the other."""
    finish = on_device.finish
    patched.setattr(on_device, "finish", lambda *given: finish(*given).double())
    torch.set_default_dtype(torch.float64)


def _process(rank, path, run):
    in_float64(pytest.MonkeyPatch())
    training.train(config.load(path, ["--train.epochs", "1"]), run, evaluate=False)


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates_in_the_meta_phase_too(tiny, tmp_path, monkeypatch):
    two_processes.run(_process, str(tiny), tmp_path / "two")
    try:
        in_float64(monkeypatch)
        training.train(
            config.load(tiny, ["--train.epochs", "1", "--train.accumulate", "2"]),
            tmp_path / "one",
            evaluate=False,
        )
    finally:
        torch.set_default_dtype(torch.float32)
    two, one = (checkpoint.read(tmp_path / name / "last.pt")["weights"] for name in ("two", "one"))
    moved = 0
    for key, value in one.items():
        if "running" in key or "num_batches" in key:
            continue  # each process records its own batches
        torch.testing.assert_close(two[key], value, rtol=1e-7, atol=1e-9, msg=key)
        moved += key.endswith("gate") and bool((value < 0.999).any())
    assert moved > 3
    for line, wanted in zip(
        lines_of(tmp_path / "two", "epoch"), lines_of(tmp_path / "one", "epoch"), strict=True
    ):
        for key, value in wanted["losses"].items():
            assert line["losses"][key] == pytest.approx(value, rel=1e-5), key  # logged in float32


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method.meta_train_domains": 3}, "only 3 in all"),
        ({"data.loaders.meta.identities": 7}, "cannot be balanced over 3 domains"),
        ({"data.loaders.meta.identities": 60}, "identities"),
        ({"data.name": "market1501"}, "only 1 in all"),
        ({"method.norm": "bn"}, "no gates"),
        ({"method.meta_learns": "everything"}, "gates, all"),
    ],
)
def test_what_the_split_of_domains_needs_is_said_before_training(tiny, tmp_path, capsys, changes, said):
    run = tmp_path / "run"
    assert main(["train", str(tiny), "--run", str(run), *words_of(changes)]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert not run.exists()


def test_only_files_are_scored_never_untrained_weights(tiny, whole, tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["evaluate", "--config", str(tiny)])
    assert refused.value.code == 2 and "required: model" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "last.pt"), "--config", str(tiny)]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    content = checkpoint.read(whole / "last.pt")
    content["weights"] = {key: value for key, value in content["weights"].items() if "layer4" not in key}
    torch.save(content, tmp_path / "part.pt")
    assert main(["evaluate", str(tmp_path / "part.pt")]) == 2
    assert "weights are missing" in capsys.readouterr().err


def test_evaluating_prints_the_published_table(whole, capsys):
    assert main(["evaluate", str(whole / "last.pt"), "--evaluate.verification", "true"]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    heads = [head.strip() for head in table[0].strip("|").split("|")]
    assert heads == ["Datasets", *COLUMNS]
    assert [line.split("|")[1].strip() for line in table[2:]] == ["rendered Market1501"]
