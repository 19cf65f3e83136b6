"""Layouts of test sets in which something hides a part of the person."""

from __future__ import annotations

from dataclasses import replace

from crossreid.synthetic.layout_visible import dukemtmc
from crossreid.synthetic.plans import Crop, Plan


def occluded_duke(identities: int, images: int | None, seed: int) -> Plan:
    """As DukeMTMC-reID; something stands before every query."""
    plan = dukemtmc(identities, images, seed)
    plan.images = [
        replace(each, occlusion=1.0) if each.path.startswith("query/") else each for each in plan.images
    ]
    return plan


def partial_reid(identities: int, images: int | None, seed: int) -> Plan:
    """Five images of each identity that show a part, five in which something hides one, five of the whole."""
    folders: dict[str, dict] = {
        "partial_body_images": {"jitter": 5.0, "camera": 1},
        "occluded_body_images": {"occlusion": 1.0, "camera": 1},
        "whole_body_images": {"camera": 2},
    }
    return Plan(
        [
            Crop(f"{folder}/{identity:03d}_{index + 1:03d}.jpg", identity, index=index, **how)
            for identity in range(1, identities + 1)
            for folder, how in folders.items()
            for index in range(images or 5)
        ]
    )


def partial_ilids(identities: int, images: int | None, seed: int) -> Plan:
    """One query of each identity that shows a part, and one gallery image of the whole."""
    return Plan(
        [
            Crop(f"{folder}/{identity:03d}.jpg", identity, camera, 0, jitter=jitter)
            for identity in range(1, identities + 1)
            for camera, folder, jitter in ((1, "Probe", 5.0), (2, "Gallery", 1.0))
        ]
    )
