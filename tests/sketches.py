"""The loss wiring of the five methods on toy networks: what the contract and the loop must be able to carry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from crossreid.methods.base import Method, Phase
from crossreid.records import Batch, Embedding

PIXELS, WIDTH, STRIPES = 48, 8, 4


@dataclass
class Config:
    meta: bool = True


def hardest(distance, target):
    same = target[:, None] == target[None]
    positive = distance.masked_fill(~same, -1).argmax(1)
    negative = distance.masked_fill(same, 1e6).argmin(1)
    return positive, negative


def triplet(x, target, margin=0.3):
    distance = torch.cdist(x, x)
    positive, negative = hardest(distance, target)
    rows = torch.arange(len(x))
    return F.relu(distance[rows, positive] - distance[rows, negative] + margin).mean()


class Toy(Method):
    Config = Config

    def embed(self, images, modality=None, feature=None):
        return Embedding(self.neck(self.body(images.flatten(1))))


class ToyAGW(Toy):
    """Two losses on one network with running statistics and dropout."""

    def __init__(self, config, classes, domains=1):
        super().__init__(config, classes, domains)
        self.body, self.neck = nn.Linear(PIXELS, WIDTH), nn.BatchNorm1d(WIDTH)
        self.dropout, self.classifier = nn.Dropout(0.3), nn.Linear(WIDTH, classes, bias=False)
        self.neck.bias.requires_grad_(False)

    def forward(self, batch, phase, progress):
        pooled = self.body(batch.images.flatten(1))
        losses = {
            "identity": F.cross_entropy(self.classifier(self.dropout(self.neck(pooled))), batch.target),
            "triplet": triplet(pooled, batch.target),
        }
        return losses | {"total": losses["identity"] + losses["triplet"]}

    def parameter_groups(self):
        neck = {"params": [self.neck.weight, self.classifier.weight], "name": "head", "lr_factor": 1.0}
        return {"main": [{"params": list(self.body.parameters()), "name": "body", "lr_factor": 0.1}, neck]}


class ToyDDAG(ToyAGW):
    """Part and graph terms; the graph's weight crosses epochs and is zero in the first."""

    def __init__(self, config, classes, domains=1):
        super().__init__(config, classes, domains)
        self.part, self.graph = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, classes)
        self.register_buffer("graph_weight", torch.zeros((), dtype=torch.float64))

    def forward(self, batch, phase, progress):
        losses = super().forward(batch, phase, progress)
        del losses["total"]
        pooled = self.body(batch.images.flatten(1))
        losses["part"] = F.cross_entropy(self.classifier(self.neck(pooled + self.part(pooled))), batch.target)
        reached = (batch.target[:, None] == batch.target[None]).float()
        mixed = (reached / reached.sum(1, keepdim=True)) @ self.dropout(pooled)
        losses["graph"] = F.cross_entropy(self.graph(mixed), batch.target)
        base = losses["identity"] + losses["triplet"] + losses["part"]
        return losses | {"base": base, "total": base + self.graph_weight.float() * losses["graph"]}

    def epoch_end(self, means):
        self.graph_weight.fill_(1 / (1 + means["train/base"]))

    def parameter_groups(self):
        groups = super().parameter_groups()
        extra = [*self.part.parameters(), *self.graph.parameters()]
        groups["main"].append({"params": extra, "name": "attention", "lr_factor": 1.0})
        return groups


class ToyMVD(Toy):
    """Three branches; the shared one runs twice in a forward; a teacher is detached."""

    def __init__(self, config, classes, domains=1):
        super().__init__(config, classes, domains)
        self.branches = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(PIXELS, WIDTH), nn.BatchNorm1d(WIDTH)) for name in "isv"}
        )
        self.bottleneck = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)
        )
        self.classifier = nn.Linear(WIDTH, classes)

    def embed(self, images, modality=None, feature=None):
        return Embedding(torch.cat([branch(images.flatten(1)) for branch in self.branches.values()], 1))

    def forward(self, batch, phase, progress):
        colour = batch.images.flatten(1)
        grey = batch.images.mean(1, keepdim=True).expand_as(batch.images).flatten(1)
        seen = [self.branches[n](x) for n, x in (("i", grey), ("s", grey), ("s", colour), ("v", colour))]
        kept = [self.bottleneck(x) for x in seen]
        identity = sum(F.cross_entropy(self.classifier(x), batch.target) for x in seen + kept)
        distil = sum(
            F.kl_div(
                F.log_softmax(self.classifier(z), 1),
                F.softmax(self.classifier(v).detach(), 1),
                reduction="batchmean",
            )
            for v, z in zip(seen, kept)
        )
        return {"identity": identity, "distillation": distil, "total": identity + 2 * distil}


class ToyAlignedReID(Toy):
    """Stripes, with the mining of the global distance shared by the local loss."""

    def __init__(self, config, classes, domains=1):
        super().__init__(config, classes, domains)
        self.body, self.neck = nn.Linear(PIXELS, WIDTH), nn.Identity()
        self.local, self.classifier = nn.Linear(PIXELS // STRIPES, WIDTH), nn.Linear(WIDTH, classes)

    def embed(self, images, modality=None, feature=None):
        stripes = self.local(images.transpose(1, 2).reshape(len(images), STRIPES, -1))
        return Embedding(self.body(images.flatten(1)), F.normalize(stripes, dim=2))

    def forward(self, batch, phase, progress):
        out = self.embed(batch.images)
        distance = torch.cdist(out.feature, out.feature)
        positive, negative = hardest(distance, batch.target)
        rows = torch.arange(len(batch))
        local = [
            torch.cdist(out.stripes, out.stripes[other]).diagonal(dim1=1, dim2=2).tanh().sum(1)
            for other in (positive, negative)
        ]
        losses = {
            "identity": F.cross_entropy(self.classifier(out.feature), batch.target, label_smoothing=0.1),
            "global": F.relu(distance[rows, positive] - distance[rows, negative] + 0.3).mean(),
            "local": F.relu(local[0] - local[1] + 0.3).mean(),
        }
        return losses | {"total": sum(losses.values())}


class ToyMetaBIN(Toy):
    """Two phases over disjoint parameters; the second has an inner gradient and reaches neither neck nor classifier."""

    def __init__(self, config, classes, domains=1):
        super().__init__(config, classes, domains)
        self.body = ToyGated()
        self.neck, self.classifier = nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, classes, bias=False)
        self.register_buffer("turns", torch.zeros((), dtype=torch.int64))

    def phases(self, progress):
        if not self.config.meta:
            return (Phase("base", ("main", "gates")),)
        return (
            Phase("base", ("main",), repeat=10 if progress.first else 1),
            Phase("meta", ("gates",), loader="meta"),
        )

    def forward(self, batch, phase, progress):
        if phase == "base":
            pooled = self.body(batch.images.flatten(1), True)
            losses = {
                "identity": F.cross_entropy(self.classifier(self.neck(pooled)), batch.target),
                "triplet": triplet(pooled, batch.target),
            }
            return losses | {"total": losses["identity"] + losses["triplet"]}
        order = torch.randperm(self.domains)
        learns = torch.isin(batch.domain, order[: self.domains // 2])
        inner = batch.select(learns)
        loss = triplet(self.body(inner.images.flatten(1), False), inner.target, 1.0)
        (slope,) = torch.autograd.grad(loss, [self.body.gate])
        self.turns += 1
        step = progress.lrs["gates"][0] * (1 + float(self.turns % 3))
        moved = self.body.gate - step * slope
        virtual = self.body.gate + (moved.clamp(0, 1) - self.body.gate).detach()
        outer = batch.select(~learns)
        pooled = functional_call(self.body, {"gate": virtual}, (outer.images.flatten(1), False))
        outcome = triplet(pooled, outer.target, 1.0)
        return {"inner": loss.detach(), "outer": outcome.detach(), "total": outcome}

    def parameter_groups(self):
        gates = [self.body.gate]
        rest = [p for p in self.parameters() if p is not self.body.gate]
        return {
            "main": [{"params": rest, "name": "weights"}],
            "gates": [{"params": gates, "name": "gates", "bounds": (0.0, 1.0), "weight_decay": 0.0}],
        }


class ToyGated(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(PIXELS, WIDTH)
        self.gate = nn.Parameter(torch.ones(WIDTH))
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x, moving: bool = False):
        x = self.weight(x)
        if self.training and not moving:
            normal = F.batch_norm(x, None, None, self.norm.weight, self.norm.bias, True)
        else:
            normal = self.norm(x)
        return self.gate * normal + (1 - self.gate) * F.layer_norm(x, x.shape[1:])


SKETCHES = {
    "agw": (ToyAGW, {}),
    "ddag": (ToyDDAG, {}),
    "mvd": (ToyMVD, {}),
    "alignedreid": (ToyAlignedReID, {}),
    "metabin": (ToyMetaBIN, {}),
    "metabin_without_meta": (ToyMetaBIN, {"meta": False}),
}
CLASSES, DOMAINS = 12, 4


class Stream:
    """A loader of made-up batches with the interface of ``crossreid.data.loading.Loader``: rank r of R takes the
    draws r, r + R, ..."""

    def __init__(
        self, number: int, rank: int = 0, world: int = 1, position: dict | None = None, length: int = 5
    ):
        self.number, self.rank, self.world, self.length = number, rank, world, length
        self.drawn = position["draw"] if position else 0

    def __len__(self):
        return self.length

    def __iter__(self):
        return self

    def __next__(self):
        draw = self.drawn + self.rank
        self.drawn += self.world
        random = torch.Generator().manual_seed(1000 * self.number + draw)
        target = torch.randperm(CLASSES, generator=random)[:8].repeat_interleave(2)
        images = torch.randn(16, 3, 4, 4, generator=random) + target[:, None, None, None] / 4
        domain = torch.arange(4).repeat_interleave(4)
        return draw, Batch(images, target, torch.zeros(16).long(), torch.arange(16) % 2, domain)

    def state(self):
        return {"draw": self.drawn}
