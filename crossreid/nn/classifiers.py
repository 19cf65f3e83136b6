"""The last layer of training: from a feature to one logit for each identity, with a margin for the true one.

Each is called with the features (N, D) and, in training, the true classes (N,); without them the margin is left
out. All
but ``Linear`` compare directions alone: a logit is ``scale`` times a function of the cosine of feature and class
    weight.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from crossreid.ops.precision import in_float32


class Linear(nn.Linear):
    """The plain product of features and weights, without a bias."""

    def __init__(self, channels: int, classes: int, margin: float = 0.0, scale: float = 1.0):
        super().__init__(channels, classes, bias=False)

    def forward(self, features: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(features)


class _Cosine(nn.Module):
    """Base of the others: ``_with_margin`` turns cosines (N, C) into what is scaled."""

    def __init__(self, channels: int, classes: int, margin: float = 0.15, scale: float = 128.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.empty(classes, channels))
        nn.init.xavier_uniform_(self.weight)

    @in_float32
    def forward(self, features: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        cosine = F.linear(F.normalize(features), F.normalize(self.weight))
        return self.scale * (cosine if targets is None else self._with_margin(cosine, targets))

    def _with_margin(self, cosine: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must say what becomes of the true class's cosine")


class CosineMargin(_Cosine):
    """The true class loses ``margin`` (Wang et al. 2018, arXiv 1801.05599: AM-softmax; CosFace)."""

    def _with_margin(self, cosine, targets):
        return cosine - self.margin * F.one_hot(targets, cosine.shape[1]).to(cosine)


class CircleMargin(_Cosine):
    """Each class weighted by how far its cosine is from where it should be (Sun et al. 2020, arXiv 2002.10857, eq.
    8)."""

    def __init__(self, channels: int, classes: int, margin: float = 0.15, scale: float = 128.0):
        super().__init__(channels, classes, margin, scale)
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def _with_margin(self, cosine, targets):
        fixed = cosine.detach()
        true = (1 + self.margin - fixed).clamp_min(0) * (cosine - 1 + self.margin)
        other = (fixed + self.margin).clamp_min(0) * (cosine - self.margin)
        return torch.where(F.one_hot(targets, cosine.shape[1]).bool(), true, other)


class ArcMargin(_Cosine):
    """The angle to the true class grows by ``margin`` (Deng et al. 2019, arXiv 1801.07698: ArcFace), and other
    classes nearer than it count more as training goes on (Huang et al. 2020, arXiv 2004.00288: CurricularFace, eq.
    9 to 12).

    Angles above pi - margin, where the cosine would rise again, go on in a straight line. ``t``, a buffer of one
    number, is the running mean of the true classes' cosines.
    """

    def __init__(self, channels: int, classes: int, margin: float = 0.15, scale: float = 128.0):
        super().__init__(channels, classes, margin, scale)
        self.t: torch.Tensor
        self.register_buffer("t", torch.zeros(1))

    def _with_margin(self, cosine, targets):
        cosine = cosine.clamp(-1, 1)
        true = cosine.gather(1, targets[:, None])
        sine = (1 - true.square()).clamp_min(1e-12).sqrt()  # the root has no gradient at zero
        wider = true * math.cos(self.margin) - sine * math.sin(self.margin)
        line = true - math.sin(self.margin) * self.margin
        with torch.no_grad():
            self.t.lerp_(true.mean().to(self.t), 0.01)
        hard = torch.where(cosine > wider, cosine * (self.t.to(cosine) + cosine), cosine)
        return hard.scatter(
            1, targets[:, None], torch.where(true > math.cos(math.pi - self.margin), wider, line)
        )


CLASSIFIERS = {"linear": Linear, "arc": ArcMargin, "circle": CircleMargin, "cosine": CosineMargin}
