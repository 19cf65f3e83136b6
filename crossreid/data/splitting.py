"""Splitting images where a data set has no official split: deterministic, and by identity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossreid.records import Image, UserError, by_key


def hold_out(images: Sequence[Image], share: float, seed: int = 0) -> tuple[list[Image], list[Image]]:
    """Divide images by identity: (those kept, those of the held-out identities), each in the order given.

    share: of the identities of each domain, between 0 and 1; at least one is held out and one is kept.
    seed: of the choice, which depends on the set of identities only and not on the order of the images.
    Raises UserError if the share is outside (0, 1) or a domain has fewer than two identities.
    """
    if not 0 < share < 1:
        raise UserError(f"a share of identities to hold out lies above 0 and below 1, but {share} was given.")
    by_domain: dict[int, set[int]] = {}
    for image in images:
        by_domain.setdefault(image.domain, set()).add(image.identity)
    chosen: set[tuple[int, int]] = set()
    for domain, identities in sorted(by_domain.items()):
        if len(identities) < 2:
            raise UserError(
                "holding out identities needs at least two of them, but there is only one: give more images, "
                "or train without a held-out share."
            )
        count = min(max(1, round(share * len(identities))), len(identities) - 1)
        # RandomState, unlike Generator, keeps its stream from one numpy version to the next.
        order = np.random.RandomState(seed).permutation(len(identities))
        ordered = sorted(identities)
        chosen.update((domain, ordered[position]) for position in order[:count])
    kept = [image for image in images if (image.domain, image.identity) not in chosen]
    held = [image for image in images if (image.domain, image.identity) in chosen]
    return kept, held


def query_and_gallery(images: Sequence[Image]) -> tuple[list[Image], list[Image]]:
    """Choose queries: the first image of each identity in each camera and modality; the rest is the gallery.

    Where that would leave an identity without any gallery image (one image in each camera), only its first
    image is a query. An identity with a single image goes to the gallery, where it is a distractor.
    Both lists keep the order given.
    """
    by_identity = by_key(((image.domain, image.identity), index) for index, image in enumerate(images))
    queries: set[int] = set()
    for indices in by_identity.values():
        if len(indices) == 1:
            continue
        first: dict[tuple[int, str], int] = {}
        for index in indices:
            first.setdefault((images[index].camera, images[index].modality), index)
        queries.update(first.values() if len(first) < len(indices) else indices[:1])
    query = [image for index, image in enumerate(images) if index in queries]
    gallery = [image for index, image in enumerate(images) if index not in queries]
    return query, gallery
