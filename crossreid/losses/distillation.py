"""What one classifier learns from the classes that another one sees."""

from __future__ import annotations

import math

import torch

from crossreid.ops.precision import in_float32


@in_float32
def distillation(teacher: torch.Tensor, student: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """KL(teacher || student), summed over the classes and averaged over the batch; 0 or more.

    Tian et al., arXiv 2104.02862: what a representation keeps of its observation. The teacher gets no
    gradient.

    teacher, student: logits (N, C). temperature: divides both.
    """
    taught = (teacher.detach() / temperature).log_softmax(1)
    learned = (student / temperature).log_softmax(1)
    return (taught.exp() * (taught - learned)).sum(1).mean()


@in_float32
def jensen_shannon(first: torch.Tensor, second: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Jensen-Shannon divergence of the classes of two logits (N, C), each divided by ``temperature``, from 0 to
    log 2, averaged over the batch. Both get a gradient."""
    first, second = (first / temperature).log_softmax(1), (second / temperature).log_softmax(1)
    middle = torch.logaddexp(first, second) - math.log(2)
    halves = [(each.exp() * (each - middle)).sum(1).mean() / 2 for each in (first, second)]
    return halves[0] + halves[1]


@in_float32
def released_distillation(
    teacher: torch.Tensor, student: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """What MVD's released program computes in the place of ``distillation``.

    It hands the divergence the teacher's probabilities where their logarithms belong, in the place of the
    student, and averages over the N C elements: mean of s log s - s t, negative, with t the teacher's and s
    the student's probabilities. Its gradient spreads the student's classes more than it aligns them. The
    teacher gets none.

    teacher, student: logits (N, C). temperature: divides both.
    """
    taught = (teacher.detach() / temperature).softmax(1)
    learned = (student / temperature).log_softmax(1)
    return (learned.exp() * (learned - taught)).mean()
