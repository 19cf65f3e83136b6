"""Adapters that take one training step of each published program, from the user's own clone.

Each function gets the folder of the clones, the batches by phase and the number of classes, and gives a function that
takes one step and the weights in the form that the program saves them. Nothing of the programs is in this repository:
their modules are imported from the clones, with what this needs on today's torch and without an accelerator put in
place first.
"""

from __future__ import annotations

import collections
import collections.abc
import sys
import types
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

AGW = "Cross-Modal-Re-ID-baseline"
DDAG = "DDAG"
MVD = "Farewell-to-Mutual-Information-Variational-Distiilation-for-Cross-Modal-Person-Re-identification"
ALIGNED = "AlignedReID"
METABIN = "MetaBIN"


def agw(originals: Path, images: dict, classes: int):
    """ResNet-50 with non-local blocks, weighted triplet. Its own loop computes the forward pass twice and uses the
    second; here it is computed once."""
    _enter(originals, AGW)
    import loss
    import model

    _fresh_weights(model)
    net = model.embed_net(classes, no_local="on", gm_pool="on", arch="resnet50").train()
    batch = images["train"]
    visible, infrared = batch.images.chunk(2)
    identity, triplet = nn.CrossEntropyLoss(), loss.TripletLoss_WRT()
    optimizer = _sgd(net, ("bottleneck", "classifier"))

    def step() -> None:
        feature, scores = net(visible, infrared)
        total = identity(scores, batch.target) + triplet(feature, batch.target)[0]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step, {"net": net.state_dict()}


def ddag(originals: Path, images: dict, classes: int):
    """ResNet-50 with attention over parts and over the batch's graph."""
    _enter(originals, DDAG)
    import loss
    import model_main

    _fresh_weights(model_main)
    net = model_main.embed_net(512, classes, drop=0.2, part=3, wpa=True, arch="resnet50").train()
    batch = images["train"]
    visible, infrared = batch.images.chunk(2)
    identity, triplet = nn.CrossEntropyLoss(), loss.OriTripletLoss(batch_size=len(batch.target), margin=0.3)
    attention = ("attention_0", "attention_1", "attention_2", "attention_3", "out_att")
    optimizer = _sgd(net, ("bottleneck", "classifier", "wpa", *attention))
    one_hot = F.one_hot(batch.target, classes).float()

    def step() -> None:
        graph = one_hot @ one_hot.t() + torch.eye(len(one_hot))
        graph = graph / graph.pow(2).sum(1, keepdim=True).sqrt()
        feature, scores, attended, nodes = net(visible, infrared, graph)
        total = identity(scores, batch.target) + triplet(feature, batch.target)[0]
        total = total + identity(attended, batch.target) + 0.1 * F.nll_loss(nodes, batch.target)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step, {"net": net.state_dict()}


def mvd(originals: Path, images: dict, classes: int):
    """Three ResNet-50, four bottlenecks; losses and weights as its trainer and its script for SYSU-MM01 have them."""
    _enter(originals, MVD)
    torch.Tensor.cuda = nn.Module.cuda = lambda self, *_, **__: self
    import reid.models.baseline
    import utlis
    from reid import trainers
    from reid.models.newresnet import ft_net

    _fresh_weights(reid.models.baseline)
    settings = types.SimpleNamespace(
        z_dim=256, temperature=1, lr=0.00026, CE_loss=1, Triplet_loss=1, CML_loss=8, VSD_loss=2, VCD_loss=2
    )
    net = ft_net(settings, classes, 2048).train()
    batch = images["train"]
    trainer = trainers.Trainer(
        settings,
        net,
        utlis.CrossEntropyLabelSmooth(classes, 0.1),
        utlis.Rank_loss(margin_1=0.9, margin_2=1.0, alpha_1=2.2, alpha_2=2.0),
        None,
        None,
    )
    optimizer = net.optims()
    weights = [
        settings.CE_loss,
        settings.Triplet_loss,
        settings.CML_loss,
        settings.VSD_loss,
        settings.VCD_loss,
    ]

    def step() -> None:
        losses = trainer._forward(batch.images, batch.target, batch.modality, 0)
        optimizer.zero_grad()
        sum(weight * loss for weight, loss in zip(weights, losses)).backward()
        optimizer.step()

    return step, {"model": net.state_dict()}


def alignedreid(originals: Path, images: dict, classes: int):
    """ResNet-50 with cross entropy and global and local triplets."""
    _enter(originals, ALIGNED)
    import torchvision

    torchvision.models.resnet50 = partial(_without_pretrained, torchvision.models.resnet50)
    from models.ResNet import ResNet50
    from util import losses
    from util.optimizers import init_optim

    net = ResNet50(classes, loss={"softmax", "metric"}, aligned=True).train()
    batch = images["train"]
    identity, metric = (
        losses.CrossEntropyLabelSmooth(classes, use_gpu=False),
        losses.TripletLossAlignedReID(0.3),
    )
    optimizer = init_optim("adam", net.parameters(), 2e-4, 5e-4)

    def step() -> None:
        scores, feature, stripes = net(batch.images)
        total = identity(scores, batch.target) + sum(metric(feature, batch.target, stripes))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step, {"state_dict": net.state_dict()}


def metabin(originals: Path, images: dict, classes: int):
    """ResNet-50 with gates: the program's own two steps of an iteration, without logging and mixed precision."""
    root = _enter(originals, METABIN)
    _old_names()
    from fastreid.config import get_cfg
    from fastreid.engine.train_loop import SimpleTrainer
    from fastreid.modeling.meta_arch.metalearning import Metalearning
    from fastreid.utils.events import EventStorage

    cfg = get_cfg()
    cfg.merge_from_file(str(root / "configs" / "Sample" / "DG-resnet.yml"))
    cfg.merge_from_list(
        ["MODEL.BACKBONE.PRETRAIN", False, "MODEL.HEADS.NUM_CLASSES", classes, "MODEL.DEVICE", "cpu"]
        + ["SOLVER.AMP", False, "META.SOLVER.SYNC", False]
    )
    cfg.META.DATA.NUM_DOMAINS, cfg.SOLVER.ITERS_PER_EPOCH = 5, 100
    model = Metalearning(cfg).train()
    weights, gates = [], []
    for name, value in model.named_parameters():
        if value.requires_grad:
            group = {"params": [value], "name": name, "freeze": False}
            rate = 0.02 if "bias" in name else 0.01
            (gates if name.endswith("gate") else weights).append(
                group | ({"lr": 0.1} if name.endswith("gate") else {"lr": rate, "weight_decay": 5e-4})
            )
    trainer = SimpleTrainer(
        cfg,
        model,
        _Endless(images["base"], model),
        {"mtrain": _Endless(images["meta"], model), "mtest": None},
        torch.optim.SGD(weights, lr=0.01, momentum=0.9),
        torch.optim.SGD(gates, lr=0.1),
        _meta_settings(cfg),
    )
    trainer.data_loader_mtest, trainer.cfg = None, cfg
    trainer.iter, trainer.cnt, trainer.global_meta_cnt = 1, 1, 0
    trainer.metrics_dict, trainer.data_time_all = {}, 0.0
    trainer.cyclic_optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    trainer.cyclic_scheduler = torch.optim.lr_scheduler.CyclicLR(
        trainer.cyclic_optimizer, 0.001, 0.1, step_size_up=250, step_size_down=250, cycle_momentum=False
    )
    storage = EventStorage(0)

    def step() -> None:
        with storage:
            trainer.run_step_meta_learning1()
            trainer.run_step_meta_learning2()

    return step, {"model": model.state_dict()}


class _Endless:
    """The same batch for ever, in the program's form: pixels from 0 to 255, which it normalises in place."""

    def __init__(self, batch, model):
        self.pixels = batch.images * model.pixel_std + model.pixel_mean
        self.targets, self.domains = batch.target, batch.domain

    def __iter__(self):
        return self

    def __next__(self):
        return {"images": self.pixels.clone(), "targets": self.targets, "others": {"domains": self.domains}}


def _meta_settings(cfg) -> dict:
    """The plain dict that the program's launcher makes of its configuration, with the values of that file."""
    meta = cfg.META
    return {
        "synth_data": "none",
        "synth_method": "none",
        "synth_grad": "none",
        "constant_grad": 0.01,
        "random_scale_grad": 1.0,
        "num_domain": 5,
        "num_mtrain": 3,
        "num_mtest": 2,
        "whole": True,
        "shuffle_domain": True,
        "meta_compute_layer": meta.MODEL.META_COMPUTE_LAYER,
        "meta_update_layer": meta.MODEL.META_UPDATE_LAYER,
        "meta_all_params": False,
        "iter_init_inner": 1,
        "iter_init_inner_first": 1,
        "iter_init_outer": 1,
        "iter_mtrain": 1,
        "iters_per_epoch": 100,
        "update_ratio": 0.0,
        "update_cyclic_ratio": 10.0,
        "update_cyclic_period": meta.SOLVER.LR_FACTOR.META_CYCLIC_PERIOD_PER_EPOCH,
        "update_cyclic_new": True,
        "use_second_order": False,
        "stop_gradient": True,
        "auto_grad_outside": True,
        "inner_clamp": True,
        "allow_unused": False,
        "freeze_gradient_meta": False,
        "zero_grad": True,
        "main_zero_grad": True,
        "norm_zero_grad": True,
        "momentum_init_grad": 0.0,
        "flag_manual_zero_grad": "hold",
        "flag_manual_memory_empty": False,
        "type_running_stats_init": "general",
        "type_running_stats_mtrain": "hold",
        "type_running_stats_mtest": "hold",
        "loss_combined": False,
        "loss_weight": 1.0,
        "loss_name_mtrain": meta.LOSS.MTRAIN_NAME,
        "loss_name_mtest": meta.LOSS.MTEST_NAME,
        "one_loss_for_iter": False,
        "one_loss_order": "forward",
        "sync": False,
        "print_grad": False,
        "detail_mode": False,
    }


def _enter(originals: Path, name: str) -> Path:
    """Put the clone first among the folders of modules, and torch's older signatures in place."""
    root = (originals / name).resolve()
    if not root.is_dir():
        raise SystemExit(f"there is no clone {name} in {originals}")
    sys.path.insert(0, str(root))
    for module in [
        name for name in sys.modules if name.split(".")[0] in ("loss", "model", "models", "util", "utils")
    ]:
        del sys.modules[module]
    add = torch.Tensor.addmm_

    def addmm_(self, *given, **named):
        if len(given) == 4:  # beta, alpha, and the two matrices
            return add(self, *given[2:], beta=given[0], alpha=given[1])
        return add(self, *given, **named)

    torch.Tensor.addmm_ = addmm_
    return root


def _fresh_weights(module) -> None:
    """Random pretrained weights in place of a download."""
    module.resnet50 = partial(_without_pretrained, module.resnet50)


def _without_pretrained(network, pretrained=False, **settings):
    return network(**settings)


def _sgd(net: nn.Module, heads: tuple[str, ...]) -> torch.optim.SGD:
    """As AGW and DDAG set it up: a tenth of the rate for everything but the heads."""
    rest = [value for name, value in net.named_parameters() if name.split(".")[0] not in heads]
    groups = [{"params": rest, "lr": 0.01}]
    groups += [{"params": getattr(net, head).parameters(), "lr": 0.1} for head in heads]
    return torch.optim.SGD(groups, lr=0.1, weight_decay=5e-4, momentum=0.9, nesterov=True)


def _old_names() -> None:
    """Names that Python, numpy and torch had when MetaBIN was written, and stand-ins for its drawing libraries."""
    for name in ("Mapping", "Sequence", "Iterable", "MutableMapping", "Callable"):
        setattr(collections, name, getattr(collections.abc, name))
    for name, kind in {"bool": bool, "int": int, "float": float, "object": object}.items():
        if name not in vars(np):
            setattr(np, name, kind)
    six = types.ModuleType("torch._six")
    six.container_abcs, six.string_classes, six.int_classes, six.inf = collections.abc, str, int, float("inf")
    sys.modules["torch._six"] = six
    # torch's own lazy parts must not see the stand-ins.
    import torch._dynamo  # noqa: F401
    import torchvision.ops  # noqa: F401

    drawing = (
        "pandas",
        "seaborn",
        "openpyxl",
        "matplotlib",
        "matplotlib.pyplot",
        "imageio",
        "sklearn.manifold",
    )
    for name in (*drawing, "sklearn", "sklearn.metrics", "h5py", "cv2"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = MagicMock()
