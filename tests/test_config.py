"""Settings: every bundled file loads, and each kind of mistake gets one paragraph that helps."""

import copy

import pytest
import yaml

from crossreid import checkpoint, config
from crossreid.records import UserError


@pytest.mark.parametrize("name", config.bundled())
def test_every_shipped_file_loads_and_round_trips(name):
    settings = config.load(name)
    again = config.load(yaml.safe_load(settings.to_yaml()))
    assert again.to_dict() == settings.to_dict()
    method = checkpoint.build(
        settings.method_name, settings.method | {"pretrained": None}, classes=10, domains=6
    )
    assert set(method.parameter_groups()) == set(settings.train.optimizers)
    assert {
        phase.loader
        for phase in method.phases(__import__("crossreid.methods.base", fromlist=["x"]).Progress())
    } <= set(settings.data.loaders)
    head = config.bundled()[name].read_text(encoding="utf-8").split("method:")[0]
    assert head.startswith("#")


def small():
    return {"method": {"name": "agw", "pretrained": None}, "data": {"name": "market1501"}}


def test_resolving_leaves_the_tree_as_it_is():
    tree = small() | {"train": {"optimizers": {"main": {"lr": 0.5}}}}
    given = copy.deepcopy(tree)
    config.resolve(tree)
    assert tree == given


@pytest.mark.parametrize(
    "tree, overrides, protocol",
    [
        (
            {},
            ["--data.name", "dukemtmc"],
            {"name": "single_query", "source": "dukemtmc", "same_camera": False},
        ),
        ({}, ["--data.name", "sysu_mm01"], {"name": "sysu_mm01", "mode": "all"}),
        ({}, ["--protocol.name", "sysu_mm01"], {"name": "sysu_mm01", "mode": "all"}),
        ({}, ["--data.name", "dukemtmc", "--protocol.source", "market1501"], {"source": "market1501"}),
        ({"source": "csv"}, ["--data.name", "dukemtmc"], {"name": "single_query", "source": "csv"}),
        ({"name": "generalization"}, ["--data.name", "[dukemtmc, sysu_mm01]"], {"name": "generalization"}),
        (
            {"name": "cuhk03"},
            ["--protocol.name", "single_query"],
            {"name": "single_query", "source": "market1501"},
        ),
    ],
)
def test_a_resolved_protocol_follows_other_data(tree, overrides, protocol):
    given = small() | {"protocol": {"name": "single_query", "same_camera": False} | tree}
    if given["protocol"]["name"] != "single_query":
        del given["protocol"]["same_camera"]
    resolved = config.load(given).to_dict()
    found = config.load(resolved, overrides).to_dict()["protocol"]
    assert protocol.items() <= found.items()


def test_a_protocol_that_is_named_at_last_keeps_its_settings():
    given = small() | {"protocol": {"same_camera": False}}
    assert config.load(given, ["--protocol.name", "single_query"]).protocol["same_camera"] is False


def test_other_settings_of_the_reader_reach_the_protocol():
    tree = {"method": {"name": "agw"}, "data": {"name": "folder", "settings": {"pattern": "(?P<identity>a)"}}}
    resolved = config.load(tree).to_dict()
    assert resolved["protocol"]["settings"] == {"pattern": "(?P<identity>a)"}
    found = config.load(resolved, ["--data.settings.pattern", "(?P<identity>b)"])
    assert found.protocol["settings"] == {"pattern": "(?P<identity>b)"} == found.data.settings
    assert config.load(resolved, ["--data.name", "market1501"]).data.settings == {}


def test_other_domains_keep_what_is_set_for_several():
    """Without data sets that cannot be had, MetaBIN trains on all images of the others, and tests on unseen ones."""
    found = config.load("metabin_dg_resnet", ["--data.name", "[market1501, cuhk_sysu, cuhk03, msmt17]"])
    assert found.data.settings == {"all_images": True} and found.protocol_name == "generalization"
    alone = config.load("metabin_dg_resnet", ["--data.name", "market1501"])
    assert alone.data.settings == {} and alone.protocol_name == "single_query"
    other = config.load({"method": {"name": "agw"}, "data": {"name": ["sysu_mm01", "regdb"]}}).to_dict()
    assert config.load(other, ["--data.name", "[regdb, sysu_mm01]"]).protocol_name == "regdb"


def test_null_takes_an_optimizer_or_a_loader_away():
    gone = ["--train.optimizers.center", "null", "--method.losses", "[triplet]"]
    assert list(config.load("baseline_market1501", gone).train.optimizers) == ["main"]
    without = ["--method.meta", "false", "--data.loaders.meta", "null"]
    assert list(config.load("metabin_market1501", without).data.loaders) == ["train"]


def test_overrides_are_read_as_yaml():
    settings = config.load(
        small(),
        [
            "--train.epochs",
            "7",
            "--data.size=[96, 48]",
            "--method.margin",
            "null",
            "--train.optimizers.main.lr",
            "1e-4",
            "--train.optimizers.main.schedule.milestones",
            "[3, 5]",
        ],
    )
    assert settings.train.epochs == 7 and settings.data.size == (96, 48) and settings.method["margin"] is None
    assert settings.train.optimizers["main"].lr == 1e-4
    assert settings.train.optimizers["main"].schedule.milestones == [3, 5]


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["--train.epoch", "3"], ["'epoch'", "did you mean 'epochs'"]),
        (["--trian.epochs", "3"], ["'trian.epochs'", "train"]),
        (["--train.epochs", "many"], ["train.epochs", "whole number", "many"]),
        (["--train.epochs", "0"], ["train.epochs", "1 or more"]),
        (["--evaluate.batch", "0"], ["evaluate.batch", "from 1"]),
        (["--evaluate.k1", "0"], ["evaluate.k1", "from 1"]),
        (["--evaluate.weight", "3"], ["evaluate.weight", "between 0 and 1"]),
        (["--train.optimizers.main.weight_decai", "1"], ["'weight_decai'", "did you mean 'weight_decay'"]),
        (["--train.optimizers.main.schedule.name", "cosin"], ["'cosin'", "did you mean 'cosine'"]),
        (["--train.precision", "fp16"], ["train.precision", "float16"]),
        (["--train.select", "test"], ["train.evaluate_every"]),
        (["--method.name", "agv"], ["'agv'", "did you mean 'agw'"]),
        (["--method.poling", "gem"], ["'poling'", "did you mean 'pooling'"]),
        (["--data.size", "96"], ["data.size is '96': expected a list"]),
        (["--train.device", "0"], ["train.device is 0: expected text"]),
        (
            ["--protocol.name", "generalization", "--protocol.targets", "grid"],
            ["protocol.targets is 'grid': expected a list"],
        ),
        (["--data.size", "[96, 48, 3]"], ["data.size is '[96, 48, 3]': expected a list of 2"]),
        (["--data.name", "market"], ["'market'", "did you mean 'market1501'"]),
        (["--data.loaders.train.sampler", "identty"], ["identty", "did you mean 'identity'"]),
        (["--protocol.same_camra", "false"], ["'same_camra'", "did you mean 'same_camera'"]),
        (["--evaluate.rerank", "perhaps"], ["evaluate.rerank", "perhaps"]),
        (["train.epochs", "3"], ["not understood"]),
        (["--train.epochs"], ["without a value"]),
    ],
)
def test_a_mistake_is_named_with_the_way_out(overrides, words):
    with pytest.raises(UserError) as error:
        config.load(small(), overrides)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="did you mean 'agw_sysu_mm01'"):
        config.load("agw_sysu_mm1")
    (tmp_path / "broken.yaml").write_text("method: [")
    with pytest.raises(UserError, match="cannot be read"):
        config.load(tmp_path / "broken.yaml")
    (tmp_path / "code.yaml").write_text("method: !!python/object/apply:os.system ['true']")
    with pytest.raises(UserError, match="cannot be read"):
        config.load(tmp_path / "code.yaml")


def test_the_protocol_follows_the_data():
    tree = {"method": {"name": "agw"}, "data": {"name": "folder", "settings": {"train_share": 0.3}}}
    settings = config.load(tree)
    assert settings.protocol_name == "single_query"
    assert settings.protocol["source"] == "folder" and settings.protocol["settings"] == {"train_share": 0.3}


def test_help_lists_every_setting_with_its_value(capsys):
    from crossreid.__main__ import main

    assert main(["train", "agw_sysu_mm01", "--train.epochs", "7", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    settings = config.load("agw_sysu_mm01", ["--train.epochs", "7"])
    for heading, values in settings.to_dict().items():
        for key in values:
            if key != "name" or heading == "data":
                assert f"--{heading}.{key}" in said, f"{heading}.{key}"
    assert "--train.epochs EPOCHS (type: int, default: 7)" in said and "--resume RUN" in said
    assert ".help" not in said and "configuration file" not in said


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("method: {name: agw}\ntrain:\n  epochs: 5\ndata: {flip: 0}\ntrain:\n  seed: 1\n")
    with pytest.raises(UserError, match=r"the key 'train' of line 5 stands in line 2 already"):
        config.load(path)
    path.write_text("method: {name: agw, streams: 1, streams: 2}\n")
    with pytest.raises(UserError, match=r"the key 'streams' of line 1"):
        config.load(path)
    # One that is merged in may be given anew, also where an alias repeats the result.
    path.write_text(
        "method: {name: agw}\ntrain: {optimizers: {main: &a {<<: &b {lr: 1}, lr: 2}, other: *a}}\ndata: {flip: 0}\n"
    )
    assert config.load(path).train.optimizers["other"].lr == 2
