"""Which images make up a batch: the samplers of the published systems."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from crossreid.records import MODALITIES, Labels, UserError


class Sampler(Protocol):
    """``len`` is the number of batches in a nominal epoch; ``epoch`` gives those of one, each as indices of images."""

    def __len__(self) -> int: ...

    def epoch(self, rng: np.random.Generator) -> Iterator[list[int]]: ...


class IdentitySampler:
    """Every identity once per epoch, in random order (AlignedReID++).

    A batch is P identities with K images each, drawn without replacement, or with it where an identity has
    fewer than K. Identities that do not fill a last batch are left out of that epoch.
    """

    def __init__(self, labels: Labels, identities: int, instances: int):
        _check(labels, identities, instances)
        self.identities, self.instances = identities, instances
        self.rows = _rows_by(labels.target)

    def __len__(self) -> int:
        return len(self.rows) // self.identities

    def epoch(self, rng: np.random.Generator) -> Iterator[list[int]]:
        order = rng.permutation(len(self.rows))
        for start in range(0, len(self) * self.identities, self.identities):
            chosen = order[start : start + self.identities]
            yield _flat(_draw(rng, self.rows[target], self.instances) for target in chosen)


class IdentityChunkSampler:
    """Nearly every image once per epoch, in chunks of K of one identity (the base batches of MetaBIN).

    Per epoch the images of each identity are shuffled, completed to a multiple of K by repeating some, and
    cut into chunks. Each batch takes one chunk from each of P identities drawn uniformly among those with
    chunks left; the epoch ends when fewer than P are left, so its true length varies by a few batches around
    ``len``.
    """

    complete = True

    def __init__(self, labels: Labels, identities: int, instances: int):
        _check(labels, identities, instances)
        self.identities, self.instances = identities, instances
        self.rows = _rows_by(labels.target)

    def __len__(self) -> int:
        # One less than the chunks would fill, as the authors count it: identities run out before chunks do.
        chunks = sum(math.ceil(len(rows) / self.instances) for rows in self.rows)
        return max(1, chunks // self.identities - 1)

    def epoch(self, rng: np.random.Generator) -> Iterator[list[int]]:
        chunks = [_chunks(rng, rows, self.instances, self.complete) for rows in self.rows]
        left = np.arange(len(chunks))
        while len(left) >= self.identities:
            chosen = rng.choice(left, self.identities, replace=False)
            yield _flat(chunks[target].pop() for target in chosen)
            left = np.array([target for target in left if chunks[target]], dtype=np.int64)


class IdentityWholeChunkSampler(IdentityChunkSampler):
    """The same without completed chunks (reid-strong-baseline, ReID-Survey, fast-reid, TransReID).

    Images that fill no last chunk are left out of that epoch; only an identity with fewer than K images repeats
    some.
    """

    complete = False

    def __len__(self) -> int:
        chunks = sum(max(len(rows) // self.instances, 1) for rows in self.rows)
        return max(1, chunks // self.identities)


class ImageSampler:
    """Every image once per epoch in random order, P x K in a batch, whoever they show (deep-person-reid).

    Images that do not fill a last batch are left out of that epoch.
    """

    def __init__(self, labels: Labels, identities: int, instances: int):
        _check(labels, identities, instances, apart=False)
        self.images, self.batch = len(labels), identities * instances
        if self.images < self.batch:
            raise UserError(
                f"a batch of {identities} x {instances} images cannot be drawn from {self.images}: choose a smaller "
                "product of identities and instances"
            )

    def __len__(self) -> int:
        return self.images // self.batch

    def epoch(self, rng: np.random.Generator) -> Iterator[list[int]]:
        order = rng.permutation(self.images)[: len(self) * self.batch]
        yield from order.reshape(-1, self.batch).tolist()


class CrossModalSampler:
    """P identities drawn anew for every batch, with K visible and K infrared images each (DDAG, AGW).

    Identities without replacement within a batch and independently of other batches; images with
    replacement. An epoch has floor(N / (P K)) + 1 batches, where N is the larger of the numbers of visible
    and infrared images. A batch holds 2 P K images: the visible half, then the infrared half, with the same
    identities in the same rows.
    """

    def __init__(self, labels: Labels, identities: int, instances: int):
        _check(labels, identities, instances)
        self.identities, self.instances = identities, instances
        self.visible, self.infrared = _rows_by_modality(labels)

    def __len__(self) -> int:
        larger = max(sum(map(len, self.visible)), sum(map(len, self.infrared)))
        return larger // (self.identities * self.instances) + 1

    def epoch(self, rng: np.random.Generator) -> Iterator[list[int]]:
        for _ in range(len(self)):
            chosen = rng.choice(len(self.visible), self.identities, replace=False)
            halves = [
                [rows[target][rng.integers(len(rows[target]), size=self.instances)] for target in chosen]
                for rows in (self.visible, self.infrared)
            ]
            yield _flat(halves[0] + halves[1])


class CrossModalOnceSampler:
    """Every identity once per epoch, half of its K images visible and half infrared (MVD).

    K, here, counts the images of both modalities together and must be even: K / 2 visible and K / 2
    infrared, each without replacement where an identity has enough, else with it. Identities that do not
    fill a last batch are left out of that epoch. A batch holds P K images: the visible half, then the
    infrared half, with the same identities in the same rows. (The authors' code alternates visible and
    infrared images; no loss depends on that order.)
    """

    def __init__(self, labels: Labels, identities: int, instances: int):
        _check(labels, identities, instances)
        if instances % 2:
            raise UserError(
                f"the sampler cross_modal_once takes half of an identity's images from each modality, so "
                f"instances must be even, not {instances}: choose {instances + 1} for {(instances + 1) // 2} "
                f"visible and {(instances + 1) // 2} infrared images"
            )
        self.identities, self.instances = identities, instances
        self.visible, self.infrared = _rows_by_modality(labels)

    def __len__(self) -> int:
        return len(self.visible) // self.identities

    def epoch(self, rng: np.random.Generator) -> Iterator[list[int]]:
        order = rng.permutation(len(self.visible))
        for start in range(0, len(self) * self.identities, self.identities):
            chosen = order[start : start + self.identities]
            halves = [
                [_draw(rng, rows[target], self.instances // 2) for target in chosen]
                for rows in (self.visible, self.infrared)
            ]
            yield _flat(halves[0] + halves[1])


class DomainBalancedSampler:
    """The same number of identities from every domain, domain after domain (the meta batches of MetaBIN).

    P counts the identities of the whole batch and must be a multiple of the number of domains. Within a
    domain each batch takes one chunk of K images (cut as in ``IdentityChunkSampler``) from each of P /
    domains identities drawn among those with chunks left. A domain with too few left is refilled with new
    chunks of all of its identities; the epoch ends when every domain has been refilled once. Where cameras
    are the domains, the K images of an identity come from one camera.
    """

    def __init__(self, labels: Labels, identities: int, instances: int):
        _check(labels, identities, instances)
        domains = np.unique(labels.domain)
        if identities % len(domains):
            below = identities // len(domains) * len(domains)
            raise UserError(
                f"a batch of {identities} identities cannot be balanced over {len(domains)} domains: choose "
                f"a multiple of {len(domains)} for identities, such as {below or len(domains)}"
            )
        self.instances, self.share = instances, identities // len(domains)
        self.rows: list[list[np.ndarray]] = []
        for domain in domains:
            inside = np.flatnonzero(labels.domain == domain)
            rows = [inside[part] for part in _rows_by(labels.target[inside])]
            if len(rows) < self.share:
                raise UserError(
                    f"every batch takes {self.share} identities from each of {len(domains)} domains, but "
                    f"domain {domain} has only {len(rows)}: choose at most {len(rows) * len(domains)} "
                    f"identities a batch"
                )
            self.rows.append(rows)

    def __len__(self) -> int:
        # The epoch lasts as long as the domain with the most images.
        largest = max(sum(map(len, rows)) for rows in self.rows)
        return max(1, largest // (self.share * self.instances))

    def epoch(self, rng: np.random.Generator) -> Iterator[list[int]]:
        chunks = [[_chunks(rng, rows, self.instances) for rows in domain] for domain in self.rows]
        exhausted = [False] * len(chunks)
        while True:
            batch = []
            for domain, rows in enumerate(self.rows):
                left = [place for place, parts in enumerate(chunks[domain]) if parts]
                if len(left) < self.share:
                    exhausted[domain] = True
                    if all(exhausted):
                        return
                    chunks[domain] = [_chunks(rng, part, self.instances) for part in rows]
                    left = list(range(len(rows)))
                chosen = rng.choice(left, self.share, replace=False)
                batch += [chunks[domain][place].pop() for place in chosen]
            yield _flat(batch)


SAMPLERS: dict[str, Callable[[Labels, int, int], Sampler]] = {
    "identity": IdentitySampler,
    "identity_chunks": IdentityChunkSampler,
    "identity_whole_chunks": IdentityWholeChunkSampler,
    "images": ImageSampler,
    "cross_modal": CrossModalSampler,
    "cross_modal_once": CrossModalOnceSampler,
    "domain_balanced": DomainBalancedSampler,
}


def _check(labels: Labels, identities: int, instances: int, apart: bool = True) -> None:
    """apart: whether a batch holds so many identities, and not only so many images."""
    if identities < 1 or instances < 1:
        raise UserError(
            f"a batch of {identities} identities with {instances} images each is empty: both must be 1 or more"
        )
    if len(labels) == 0:
        raise UserError(
            "there are no training images to sample from: check the folder of the data set with "
            "'crossreid data check' and the settings that select its images"
        )
    classes = len(np.unique(labels.target))
    if apart and identities > classes:
        raise UserError(
            f"a batch of {identities} identities cannot be drawn from {classes} training identities: set "
            f"data.loaders.NAME.identities, of the loader train for example, to {classes} or fewer"
        )


def _rows_by(keys: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each distinct key, keys ascending."""
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order])) + 1
    return np.split(order, starts)


def _rows_by_modality(labels: Labels) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Row numbers of the visible and of the infrared images of each class."""
    sides = []
    for modality, name in enumerate(MODALITIES):
        inside = np.flatnonzero(labels.modality == modality)
        missing = np.setdiff1d(labels.target, labels.target[inside])
        if len(missing):
            named = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise UserError(
                f"cross-modal batches need visible and infrared images of every identity, but {len(missing)} "
                f"of {len(np.unique(labels.target))} training identities have no {name} image (class index "
                f"{named}): use a visible-infrared data set, leave these identities out, or choose the "
                f"sampler 'identity'"
            )
        sides.append([inside[part] for part in _rows_by(labels.target[inside])])
    return sides[0], sides[1]


def _draw(rng: np.random.Generator, rows: np.ndarray, count: int) -> np.ndarray:
    return rng.choice(rows, count, replace=len(rows) < count)


def _chunks(rng: np.random.Generator, rows: np.ndarray, size: int, complete: bool = True) -> list[np.ndarray]:
    """Shuffled ``rows`` cut into pieces of ``size``; the last one completed by repeats, or left out."""
    if len(rows) < size:
        return [rng.choice(rows, size, replace=True)]
    shuffled = rng.permutation(rows)
    if not complete:
        shuffled = shuffled[: len(rows) // size * size]
    lacking = math.ceil(len(shuffled) / size) * size - len(shuffled)
    if lacking:
        shuffled = np.concatenate([shuffled, rng.choice(rows, lacking, replace=False)])
    return list(shuffled.reshape(-1, size))


def _flat(parts) -> list[int]:
    return np.concatenate(list(parts)).tolist()
