"""The settings files beside the programs they follow.

The expectations were read off the programs, not off the settings files: the network and its losses, the learning rate
of every group of weights at the moments where it changes, what a batch is, and what happens to an image. A file that is
changed from memory fails here.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from crossreid import checkpoint, config
from crossreid.methods.base import Progress
from crossreid.training import lr_factor, make_optimizers

CONFIGS = Path(__file__).parents[1] / "configs"
STEPS = 50  # of an epoch here; rates that change each step are given at fractions of an epoch
ERASE_MS = {"area": (0.02, 0.33), "aspect": (0.3, 3.3), "ratio": "width_over_height", "attempts": 10}
ERASE_ZHONG = {"area": (0.02, 0.4), "aspect": (0.3, 3.33), "ratio": "height_over_width", "attempts": 100}
ERASE_TORCH = {"ratio": "logarithmic", "fill": (0, 0, 0), "attempts": 10}


@dataclass
class Program:
    """rates: epoch (from 0, with a fraction of its steps) -> rate of the main optimizer at factor 1. factors: name of a
    group -> factor of its rate and its weight decay. batch: sampler, identities, instances."""

    files: tuple[str, ...]
    optimizer: tuple[str, dict]
    factors: dict[str, tuple[float, float]]
    epochs: int | dict[str, int]
    rates: dict[float, float]
    batch: tuple[str, int, int] | dict[str, tuple[str, int, int]]
    size: tuple[int, int]
    filter: str = "bilinear"
    padding: int = 0
    translate: float = 0.0
    grey: tuple[float, str] | None = None
    erase: dict | None = None
    others: dict[str, tuple[str, float, float]] = field(default_factory=dict)


ALIGNED = tuple(
    f"alignedreid_pytorch_{name}{plain}"
    for name in ("market1501", "dukemtmc", "cuhk03", "msmt17")
    for plain in ("", "_plain")
)
SGD, ADAM = {"momentum": 0.9, "nesterov": False}, {"betas": (0.9, 0.999)}
CENTERS = {"center": ("sgd", 0.5, 0.0)}
PROGRAMS = [
    Program(  # DDAG and AGW by their first author: nine tenths less for all but neck, classifier, parts and graph
        ("ddag_sysu_mm01", "ddag_regdb", "agw_sysu_mm01", "agw_regdb", "agw_base_sysu_mm01"),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        dict.fromkeys(("neck", "classifier", "part", "graph"), (1.0, 0.0005)) | {"backbone": (0.1, 5e-4)},
        81,
        {0: 0.01, 1: 0.02, 9: 0.1, 10: 0.1, 19: 0.1, 20: 0.01, 49: 0.01, 50: 0.001, 80: 0.001},
        ("cross_modal", 8, 4),
        (288, 144),
        "lanczos",
        padding=10,
    ),
    Program(
        ("ddag_mindspore_sysu_mm01", "ddag_mindspore_regdb"),
        ("adam", ADAM),
        dict.fromkeys(("neck", "classifier", "part", "graph"), (1.0, 0.0005)) | {"backbone": (0.1, 5e-4)},
        {"ddag_mindspore_sysu_mm01": 40, "ddag_mindspore_regdb": 80},
        {0: 7e-4, 3: 2.8e-3, 4: 3.5e-3, 14: 3.5e-3, 15: 3.5e-4, 26: 3.5e-4, 27: 3.5e-5},
        ("cross_modal", 8, 4),
        (288, 144),
        "lanczos",
        padding=10,
        grey=(0.5, "all"),
        erase=ERASE_MS,
    ),
    Program(  # a tenth in each of thirteen epochs
        ("mvd_mindspore_sysu_mm01", "mvd_mindspore_regdb"),
        ("adam", ADAM),
        {"encoders": (0.1, 5e-4), "bottlenecks": (1.0, 5e-4)},
        {"mvd_mindspore_sysu_mm01": 60, "mvd_mindspore_regdb": 80},
        {0: 7e-4, 4: 3.5e-3, 13: 3.5e-3, 14: 3.5e-4, 15: 3.5e-5, 25: 3.5e-15, 26: 3.5e-16, 59: 3.5e-16},
        ("cross_modal", 8, 4),
        (288, 144),
        "lanczos",
        grey=(0.5, "visible"),
        erase=ERASE_MS,
    ),
    Program(  # its clock is one epoch ahead
        ("mvd_sysu_mm01", "mvd_regdb"),
        ("adam", ADAM),
        {"encoders": (1.0, 5e-4), "bottlenecks": (1.0, 5e-4)},
        600,
        {0: 2.6e-4 * 0.109, 1: 2.6e-4 * 0.208, 9: 2.6e-4, 208: 2.6e-4, 209: 2.6e-5, 599: 2.6e-5},
        {"mvd_sysu_mm01": ("cross_modal_once", 16, 8), "mvd_regdb": ("cross_modal_once", 8, 8)},
        (256, 128),
    ),
    Program(
        ALIGNED,
        ("adam", ADAM),
        {"all": (1.0, 5e-4)},
        300,
        {0: 2e-4, 149: 2e-4, 150: 2e-5, 299: 2e-5},
        ("identity", 8, 4),
        (256, 128),
        translate=0.5,
    ),
    Program(  # weights of normalisations and biases do not decay
        ("alignedreid_market1501",),
        ("sgd", {"momentum": 0.85, "nesterov": True}),
        {"weights": (1.0, 5e-4), "norms": (1.0, 0.0)},
        300,
        {0: 0.05 / (6 * STEPS), 3: 0.05 * (3 * STEPS + 1) / (6 * STEPS), 6: 0.05, 153: 0.05 * (0.5 + 3.5e-5)},
        ("identity", 4, 8),
        (256, 128),
        translate=0.5,
        erase=ERASE_ZHONG | {"attempts": 1, "fill": (0.4914, 0.4822, 0.4465)},
    ),
    Program(  # its clock is one epoch ahead
        ("baseline_market1501", "agw_market1501"),
        ("adam", ADAM),
        {"backbone": (1.0, 5e-4), "head": (1.0, 5e-4)},
        120,
        {0: 3.5e-4 * 0.109, 8: 3.5e-4 * 0.901, 9: 3.5e-4, 38: 3.5e-4, 39: 3.5e-5, 68: 3.5e-5, 69: 3.5e-6},
        ("identity_whole_chunks", 16, 4),
        (256, 128),
        padding=10,
        erase=ERASE_ZHONG | {"fill": (0.485, 0.456, 0.406)},
        others=CENTERS,
    ),
    Program(  # warm-up over 2000 steps; divided after 49 and 99 of 120 epochs of 202 steps, in epochs of about 184
        ("agw_ibn_market1501",),
        ("adam", ADAM),
        {"backbone": (1.0, 5e-4), "head": (1.0, 5e-4)},
        round(120 * 202 / 184),
        {0: 3.5e-5, round(2000 / 184): 3.5e-4, round(49 * 202 / 184) - 0.02: 3.5e-4}
        | {
            round(49 * 202 / 184): 3.5e-5,
            round(99 * 202 / 184) - 0.02: 3.5e-5,
            round(99 * 202 / 184): 3.5e-6,
        },
        ("identity_whole_chunks", 16, 4),
        (256, 128),
        "bicubic",
        padding=10,
        erase=ERASE_TORCH | {"area": (0.02, 0.33), "aspect": (0.3, 3.3)},
    ),
    Program(
        ("baseline_osnet_market1501",),
        ("adam", ADAM | {"amsgrad": True}),
        {"backbone": (1.0, 5e-4), "head": (1.0, 5e-4)},
        250,
        {0: 1.5e-3, 125: 7.5e-4, 249: 1.5e-3 * 3.94779e-5},
        ("images", 16, 4),
        (256, 128),
    ),
    Program(  # from the second epoch of the warm-up on within 0.05 of the full rate: the header says why
        ("baseline_vit_market1501",),
        ("sgd", SGD),
        {"backbone": (1.0, 1e-4), "head": (1.0, 1e-4)},
        120,
        {0: 0.008 * 0.208, 3: 0.008 * 0.802},
        ("identity_whole_chunks", 16, 4),
        (256, 128),
        "bicubic",
        padding=10,
        erase=ERASE_TORCH | {"area": (0.02, 0.333), "aspect": (0.3, 3.33)},
    ),
    Program(  # biases learn twice as fast
        tuple(
            f"metabin_dg_{name}"
            for name in ("mobilenet", "mobilenet_x1", "resnet", "resnet18", "resnet34", "resnet101")
        ),
        ("sgd", SGD),
        {"weights": (1.0, 5e-4), "biases": (2.0, 5e-4)},
        100,
        {0: 1e-4, 5: 0.00505, 10: 0.01, 39.98: 0.01, 40: 1e-3, 69.98: 1e-3, 70: 1e-4, 99: 1e-4},
        ("identity_chunks", 20, 4),
        (256, 128),
        "bicubic",
        padding=10,
        others={"gates": ("sgd", 0.1, 0.0)},
    ),
    *(
        Program(
            (f"metabin_{name}",),
            ("sgd", SGD),
            {"weights": (1.0, 5e-4), "biases": (2.0, 5e-4)},
            120,
            {0: 1e-4, 5: 0.00505, 10: 0.01, 49.98: 0.01, 50: 1e-3, 89.98: 1e-3, 90: 1e-4},
            ("identity_chunks", 24, 4),
            (256, 128),
            "bicubic",
            padding=10,
            others={"gates": ("sgd", gates, 0.0)},
        )
        for name, gates in (("market1501", 0.2), ("dukemtmc", 0.5))
    ),
]
CASES = [pytest.param(program, name, id=name) for program in PROGRAMS for name in program.files]
# The paper's variants were never published as a program, and the small folder follows none.
WITHOUT = {"mvd_paper_sysu_mm01", "mvd_paper_regdb", "small_folder"}


def of(value, name):
    return value[name] if isinstance(value, dict) else value


def test_every_settings_file_is_compared():
    here = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert here - WITHOUT == {name for program in PROGRAMS for name in program.files} == set(NETWORKS)


@pytest.mark.parametrize(("program", "name"), CASES)
def test_every_weight_learns_at_the_rate_of_the_program(program, name):
    settings = config.load(name)
    with torch.device("meta"):
        method = checkpoint.build(settings.method_name, checkpoint.without_start(settings.method), 5, 2)
    train = settings.train
    assert train.epochs == of(program.epochs, name) and train.accumulate == 1
    optimizers = make_optimizers(method, train.optimizers)
    assert set(optimizers) == {"main"} | set(program.others)
    kind, options = program.optimizer
    assert type(optimizers["main"]).__name__.lower() == kind
    for group in optimizers["main"].param_groups:
        assert {key: group[key] for key in options} == options
        assert (group["lr_factor"], group["weight_decay"]) == program.factors[group["name"]], group["name"]
    main = train.optimizers["main"]
    for when, rate in program.rates.items():
        now = Progress(int(when), round(when % 1 * STEPS), STEPS)
        assert main.lr * lr_factor(main.schedule, train.epochs, now) == pytest.approx(rate, rel=1e-4), when
    for other, (kind, rate, decay) in program.others.items():
        assert type(optimizers[other]).__name__.lower() == kind
        for group in optimizers[other].param_groups:
            assert (group["lr"], group["weight_decay"], group["momentum"]) == (rate, decay, 0), other
        schedule = train.optimizers[other].schedule
        assert all(lr_factor(schedule, train.epochs, Progress(epoch, 0, STEPS)) == 1 for epoch in (0, 50, 99))


@pytest.mark.parametrize(("program", "name"), CASES)
def test_images_and_batches_are_those_of_the_program(program, name):
    data = config.load(name).data
    loader = data.loaders["train"]
    assert (loader.sampler, loader.identities, loader.instances) == of(program.batch, name)
    assert (tuple(data.size), data.interpolation, data.padding) == (
        program.size,
        program.filter,
        program.padding,
    )
    assert (data.flip, data.translate) == (0.5, program.translate)
    assert ((data.grey, data.grey_modality) if data.grey else None) == program.grey
    if program.erase is None:
        assert data.erase is None
    else:
        assert data.erase.probability == 0.5
        assert {key: getattr(data.erase, key) for key in program.erase} == program.erase
    assert (data.jitter is not None) == (name in ("metabin_market1501", "metabin_dukemtmc"))


def test_the_cosine_of_the_transformer_stays_near_that_of_its_program():
    main = config.load("baseline_vit_market1501").train.optimizers["main"]
    for epoch in range(120):
        theirs = 0.01 + 0.99 * (epoch + 1) / 5
        if epoch >= 4:
            theirs = 0.002 + 0.998 * 0.5 * (1 + math.cos(math.pi * (epoch + 1) / 120))
        assert abs(lr_factor(main.schedule, 120, Progress(epoch, 0, STEPS)) - theirs) < 0.052


SOFT = {"name": "triplet", "mining": "soft", "margin": None}
CENTER = {"name": "center", "weight": 0.0005}
DDAG_NETWORK = {
    "graph": True,
    "heads": 4,
    "width": 512,
    "dropout": 0.2,
    "margin": 0.3,
    "streams": 2,
    "last_stride": 1,
}
DDAG_NETWORK |= {
    "part": 3,
    "variant": "torchvision",
    "after_neck": False,
    "graph_schedule": "epoch",
    "losses": "id+tri",
}
DDAG_PORT = DDAG_NETWORK | {
    "heads": 0,
    "streams": 1,
    "last_stride": 2,
    "variant": "mindspore",
    "after_neck": True,
}
DDAG_PORT |= {"neck_bias": True, "part_bias": False, "graph_schedule": "step", "part_pooling": "bands"}
AGW_NETWORK = {
    "attention": True,
    "pooling": "gem",
    "loss": "weighted",
    "streams": 2,
    "last_stride": 1,
    "smoothing": 0.0,
}
MVD_NETWORK = {"profile": "authors", "width": 512, "normalize": "joint", "smoothing": 0.1, "temperature": 1.0}
MVD_NETWORK |= {
    "margins": [0.9, 1.0],
    "cross_margins": [2.2, 2.0],
    "identity": 1.0,
    "metric": 1.0,
    "mutual": 8.0,
}
MVD_NETWORK |= {"self_distillation": 2.0, "cross_distillation": 2.0, "representation": 2.0, "prior": 0.001}
MVD_PORT = {"profile": "mindspore", "width": 512, "normalize": "parts", "smoothing": 0.0, "margin": 0.3}
ALIGNED_NETWORK = {
    "last_stride": 2,
    "losses": ["identity", "global", "local"],
    "local_distance": "aligned",
    "margin": 0.3,
}
BASELINE = {
    "neck": True,
    "last_stride": 1,
    "smoothing": 0.1,
    "margin": 0.3,
    "metric": "cosine",
    "classifier": "linear",
}
METABIN = {
    "norm": "bin",
    "gate_init": "one",
    "last_stride": 1,
    "pooling": "average",
    "smoothing": 0.1,
    "margin": 0.3,
}
METABIN |= {
    "base_losses": ["cross_entropy", "triplet"],
    "meta_train_losses": ["scatter", "shuffle", "triplet"],
}
METABIN |= {
    "meta_test_losses": ["triplet"],
    "meta_learns": "gates",
    "meta_train_domains": 3,
    "second_order": False,
}
METABIN |= {"first_base_steps": 10, "inner_ratio": [0.001, 0.1], "inner_period": 5.0}
METABIN_ONE = METABIN | {"meta_train_losses": ["cross_entropy", "scatter", "shuffle", "triplet"]}
METABIN_ONE |= {"meta_test_losses": ["cross_entropy", "triplet"]}
NETWORKS = {
    "ddag_sysu_mm01": DDAG_NETWORK,
    "ddag_regdb": DDAG_NETWORK,
    "ddag_mindspore_sysu_mm01": DDAG_PORT,
    "ddag_mindspore_regdb": DDAG_PORT | {"part": 0, "part_bias": True},  # its scripts leave the parts out
    "agw_sysu_mm01": AGW_NETWORK,
    "agw_regdb": AGW_NETWORK,
    "agw_base_sysu_mm01": AGW_NETWORK
    | {"attention": False, "pooling": "average", "loss": "hard", "margin": 0.3},
    "mvd_sysu_mm01": MVD_NETWORK,
    "mvd_regdb": MVD_NETWORK,
    "mvd_mindspore_sysu_mm01": MVD_PORT,
    "mvd_mindspore_regdb": MVD_PORT,
    "alignedreid_market1501": ALIGNED_NETWORK | {"smoothing": 0.1, "decay_norms": False},
    **{name: ALIGNED_NETWORK | {"smoothing": 0.0 if "plain" in name else 0.1} for name in ALIGNED},
    "baseline_market1501": BASELINE
    | {"variant": "strong_baseline", "pooling": "average", "losses": ["cross_entropy", "triplet", CENTER]},
    "agw_market1501": BASELINE
    | {"variant": "strong_baseline", "attention": True, "pooling": "gem_learned"}
    | {"losses": ["cross_entropy", SOFT, CENTER]},
    "agw_ibn_market1501": BASELINE
    | {"backbone": "resnet50_ibn_a", "variant": "fastreid", "attention": True, "pooling": "gem"}
    | {"losses": ["cross_entropy", SOFT]},
    "baseline_osnet_market1501": {
        "embedding": 512,
        "neck": False,
        "losses": ["cross_entropy"],
        "smoothing": 0.1,
    }
    | {"metric": "euclidean"},
    "baseline_vit_market1501": BASELINE
    | {
        "pooling": "token",
        "smoothing": 0.0,
        "losses": ["cross_entropy", {"name": "triplet", "margin": None}],
    },
    **{name: METABIN for program in PROGRAMS for name in program.files if name.startswith("metabin_dg")},
    "metabin_market1501": METABIN_ONE,
    "metabin_dukemtmc": METABIN_ONE | {"meta_train_domains": 4},
}
FEATURES = {"alignedreid_market1501": "global_local", "baseline_vit_market1501": "global"}
FEATURES |= dict.fromkeys(ALIGNED, "global_local")


@pytest.mark.parametrize("name", NETWORKS)
def test_network_and_losses_are_those_of_the_program(name):
    settings = config.load(name)
    assert {key: settings.method[key] for key in NETWORKS[name]} == NETWORKS[name]
    assert settings.evaluate.feature == FEATURES.get(name)
    assert settings.evaluate.rerank == (name == "alignedreid_market1501")


@pytest.mark.parametrize(
    ("name", "neck", "classifier"),
    [("baseline_market1501", 0, 0.001), ("agw_market1501", 0, 0.001), ("agw_ibn_market1501", 0.02, 0.01)]
    + [("agw_sysu_mm01", 0.01, 0.001), ("ddag_sysu_mm01", 0.01, 0.001)],
)
def test_new_layers_start_as_in_the_program(name, neck, classifier):
    torch.manual_seed(0)
    settings = config.load(name)
    method = checkpoint.build(settings.method_name, checkpoint.without_start(settings.method), 50, 1)
    weights = method.neck.weight.detach()
    assert float(weights.mean()) == pytest.approx(1, abs=0.002)
    assert float(weights.std()) == pytest.approx(neck, rel=0.1) and not method.neck.bias.any()
    assert float(method.classifier.weight.detach().std()) == pytest.approx(classifier, rel=0.1)
