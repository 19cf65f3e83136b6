"""Training by comparing people of few styles with each other, for the models that come with the package.

With thousands of people and few steps a classifier sees each of them a handful of times and teaches nothing. Here the
images of a batch are told apart by their own likenesses (Khosla et al. 2020, arXiv 2004.11362), and a batch holds
people of two styles only, so that place, light and camera do not give them away.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from crossreid import checkpoint
from crossreid.data.sampling import IdentitySampler
from crossreid.files import replacing, write_json
from crossreid.images.decode import decode
from crossreid.images.resize import fit
from crossreid.losses.contrast import contrast
from crossreid.methods import method_name
from crossreid.methods.base import Method
from crossreid.records import INFRARED, Labels
from crossreid.training import averaging

# Steps between two states that a training can go on from.
KEEP = 50
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Schedule:
    """sizes: (steps, (height, width)) one after the other. lr: highest rate, reached after ``warmup`` steps, from where
    it falls by a cosine that would end after ``horizon`` steps (default: all), and in the last ``cooldown`` steps
    linearly. styles, people, images: of a batch; people of each style, images of each of them.
    infrared: how much likelier an infrared image of a person is drawn than a visible one. decay: of weights. grey:
    share of grey images. temperature: of the comparison. average: share of the averaged weights that stays at each
    step."""

    sizes: tuple[tuple[int, tuple[int, int]], ...]
    lr: float
    warmup: int = 80
    horizon: int | None = None
    cooldown: int = 0
    gates_lr: float = 0.005
    decay: float = 1e-4
    styles: int = 2
    people: int = 8
    images: int = 3
    infrared: float = 1.0
    grey: float = 0.1
    temperature: float = 0.1
    average: float = 0.995
    seed: int = 0

    @property
    def steps(self) -> int:
        return sum(steps for steps, _ in self.sizes)

    def size(self, step: int) -> tuple[int, int]:
        for steps, size in self.sizes:
            step -= steps
            if step < 0:
                return size
        return self.sizes[-1][1]

    def factor(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        horizon, left = self.horizon or self.steps, self.steps - step
        if left < self.cooldown:
            return left / self.cooldown * self.factor(self.steps - self.cooldown)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / (horizon - self.warmup)))


class People:
    """The images of ``people.csv``, resized once for each size, and who is on them: style -> person -> rows."""

    def __init__(self, folder: Path):
        self.folder = folder
        with open(folder / "people.csv", newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        self.paths = [row["path"] for row in rows]
        self.infrared = np.array([row["modality"] == INFRARED for row in rows])
        self.styles: dict[str, dict[str, list[int]]] = {}
        for number, row in enumerate(rows):
            people = self.styles.setdefault(row["identity"].partition("-")[0], {})
            people.setdefault(row["identity"], []).append(number)
        self.loaded: dict[tuple[int, int], np.ndarray] = {}

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """(N, H, W, 3) uint8, kept in a file."""
        if size not in self.loaded:
            path = self.folder / f"people-{size[0]}x{size[1]}.npy"
            if not path.exists():
                whole = np.empty((len(self.paths), *size, 3), np.uint8)
                for number, name in enumerate(self.paths):
                    whole[number] = fit(decode(self.folder / name), size, "bilinear")
                with replacing(path) as temporary, open(temporary, "wb") as file:
                    np.save(file, whole)
            self.loaded[size] = np.load(path, mmap_mode="r")
        return self.loaded[size]

    def batch(self, step: int, plan: Schedule) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 3, H, W), normalised, and whom they show (N,): a function of the step alone."""
        rng = np.random.default_rng([plan.seed, step])
        rows: list[int] = []
        names = list(self.styles)
        for style in rng.choice(len(names), plan.styles, replace=False):
            people = self.styles[names[style]]
            for person in rng.choice(len(people), plan.people, replace=False):
                seen = list(people.values())[person]
                weights = np.where(self.infrared[seen], plan.infrared, 1.0)
                few, chances = len(seen) < plan.images, weights / weights.sum()
                rows += rng.choice(seen, plan.images, replace=few, p=chances).tolist()
        targets = torch.arange(plan.styles * plan.people).repeat_interleave(plan.images)
        return varied(self.pixels(plan.size(step))[rows], plan.grey, rng), targets


def varied(pixels: np.ndarray, grey: float, rng: np.random.Generator) -> torch.Tensor:
    """Flipped, moved, brightened, tinted and greyed at random, and normalised: (N, H, W, 3) uint8 to (N, 3, H, W)."""
    count, height, width = pixels.shape[:3]
    edge = max(2, width // 12)
    wide = np.pad(pixels, ((0, 0), (edge, edge), (edge, edge), (0, 0)), mode="edge")
    images = np.empty((count, height, width, 3), np.float32)
    for number, (y, x) in enumerate(rng.integers(0, 2 * edge + 1, (count, 2))):
        image = wide[number, y : y + height, x : x + width]
        images[number] = image[:, ::-1] if rng.random() < 0.5 else image
    images /= 255
    shades = images @ np.array([0.3, 0.59, 0.11], np.float32)
    means = shades.mean((1, 2))[:, None, None, None]
    saturation = rng.uniform(0.7, 1.3, (count, 1, 1, 1)) * (rng.random((count, 1, 1, 1)) >= grey)
    images = shades[..., None] + saturation.astype(np.float32) * (images - shades[..., None])
    images = means + rng.uniform(0.75, 1.25, (count, 1, 1, 1)).astype(np.float32) * (images - means)
    images *= rng.uniform(0.75, 1.25, (count, 1, 1, 1)).astype(np.float32)
    images *= rng.uniform(0.95, 1.05, (count, 1, 1, 3)).astype(np.float32)
    ready = (np.clip(images, 0, 1) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(ready.astype(np.float32)).permute(0, 3, 1, 2)


class TwoStyles(IdentitySampler):
    """Batches of people of two styles only, those whom the same two infrared cameras have seen, K images each of
    whatever modality. As many batches an epoch as there would be without that."""

    def __init__(self, labels: Labels, identities: int, instances: int):
        super().__init__(labels, identities, instances)
        seen_by = [labels.camera[rows[labels.modality[rows] == 1][0]] for rows in self.rows]
        self.styles = [np.flatnonzero(np.equal(seen_by, camera)) for camera in np.unique(seen_by)]

    def epoch(self, rng: np.random.Generator) -> Iterator[list[int]]:
        for _ in range(len(self)):
            two = rng.choice(len(self.styles), 2, replace=False)
            chosen = [rng.choice(self.styles[style], self.identities // 2, replace=False) for style in two]
            yield self.images(np.concatenate(chosen), rng)

    def images(self, people: np.ndarray, rng: np.random.Generator) -> list[int]:
        return [row for person in people for row in _drawn(rng, self.rows[person], self.instances)]


class TwoStylesAcross(TwoStyles):
    """The same with half of the images of each person visible, which come first, and half infrared."""

    def __init__(self, labels: Labels, identities: int, instances: int):
        super().__init__(labels, identities, instances)
        self.sides = [[rows[labels.modality[rows] == side] for rows in self.rows] for side in (0, 1)]

    def images(self, people: np.ndarray, rng: np.random.Generator) -> list[int]:
        half = self.instances // 2
        return [row for side in self.sides for person in people for row in _drawn(rng, side[person], half)]


def _drawn(rng: np.random.Generator, rows: np.ndarray, count: int) -> list[int]:
    return rng.choice(rows, count, replace=len(rows) < count).tolist()


def update(
    method: Method,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    targets: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """One step of the optimizer, after which values with bounds are within them; returns the loss."""
    loss = contrast(method.embed(images).feature, targets, temperature)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for group in optimizer.param_groups:
            if group.get("bounds"):
                for value in group["params"]:
                    value.clamp_(*group["bounds"])
    return loss.detach()


def train_in_turn(
    method: Method, folder: Path, plans: Mapping[str, Schedule], device: str | torch.device = "cpu"
) -> Path:
    """Train by several plans, each from the weights of the one before, into folders of their names; returns the last
    checkpoint."""
    for name, plan in plans.items():
        trained = train(method, folder, folder / name, plan, device)
        method = checkpoint.load(trained)
    return trained


def train(
    method: Method, folder: Path, run: Path, plan: Schedule, device: str | torch.device = "cpu"
) -> Path:
    """Train, or go on where a training was stopped; returns the checkpoint."""
    run.mkdir(parents=True, exist_ok=True)
    done, state = run / "last.pt", run / "state.pt"
    if done.exists():
        return done
    people = People(folder)
    method.train().to(device, memory_format=torch.channels_last)
    groups = [
        group | {"rate": plan.gates_lr if key == "gates" else plan.lr}
        for key, found in method.parameter_groups().items()
        for group in found
    ]
    optimizer = torch.optim.Adam(groups, lr=plan.lr, weight_decay=plan.decay)
    average = averaging.start(method)
    step, seconds, spent, losses = 0, 0.0, 0.0, []
    if state.exists():
        kept = torch.load(state, map_location=device)
        method.load_state_dict(kept["weights"])
        optimizer.load_state_dict(kept["optimizer"])
        average, step, seconds = kept["average"], kept["step"], kept["seconds"]
        spent = seconds
    started = time.process_time()
    while step < plan.steps:
        images, targets = people.batch(step, plan)
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * plan.factor(step)
        images = images.to(device, memory_format=torch.channels_last)
        losses.append(update(method, optimizer, images, targets.to(device), plan.temperature))
        averaging.update(average, method, min(plan.average, (step + 1) / (step + 10)))
        step += 1
        if step % KEEP == 0 or step == plan.steps:
            spent = seconds + time.process_time() - started
            mean = torch.stack(losses).mean().item()
            print(f"step {step} of {plan.steps}, loss {mean:.3f}, {spent:.0f} s", flush=True)
            losses = []
            with replacing(state) as temporary:
                torch.save(
                    {
                        "weights": method.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "average": average,
                        "step": step,
                        "seconds": spent,
                    },
                    temporary,
                )
    method.load_state_dict(average)
    described = checkpoint.describe(
        method.eval().cpu(),
        method_name(method),
        input={
            "size": list(plan.size(plan.steps)),
            "interpolation": "bilinear",
            "mean": list(MEAN),
            "std": list(STD),
        },
        settings={},
        trained={
            "source": "rendered people",
            "identities": sum(map(len, people.styles.values())),
            "images": len(people.paths),
        },
    )
    write_json(run / "cost.json", {"steps": step, "cpu_seconds": spent})
    checkpoint.save(done, described)
    return done
