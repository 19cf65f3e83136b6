"""Rewriting names of weights, strictly: every name is mapped, or left out for a reason, or an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch

from crossreid.records import UserError


def rename(
    state: Mapping[str, torch.Tensor],
    rules: Sequence[tuple[str, str]],
    unused: Sequence[tuple[str, str]],
    system: str,
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Weights by new names, and what was left out: name -> reason.

    rules: pairs (regular expression, replacement); the first that matches at the start of a name applies.
    unused: pairs (regular expression, reason) for names to leave out; tried before the rules.
    system: how messages call the system that the names belong to.
    """
    weights, left_out = {}, {}
    for name, value in state.items():
        reason = next((reason for pattern, reason in unused if re.match(pattern, name)), None)
        if reason is not None:
            left_out[name] = reason
            continue
        for pattern, replacement in rules:
            if re.match(pattern, name):
                new = re.sub(pattern, replacement, name, count=1)
                break
        else:
            raise UserError(
                f"the checkpoint looks like one of {system}, but that system has no weight {name!r}: it was "
                f"made by a "
                "changed program. Remove what was added before converting it."
            )
        if new in weights:
            raise UserError(f"two weights of the checkpoint mean the same: {name!r} is {new!r} once more")
        weights[new] = value
    return weights, left_out
