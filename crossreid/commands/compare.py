"""Compare two images, and say how often a threshold at their distance was right in the model's evaluation.

examples:
    crossreid compare small a.jpg b.jpg
    crossreid compare runs/agw/last.pt night.jpg day.jpg --modality infrared visible
"""

from __future__ import annotations

import math

from crossreid.commands import parsing
from crossreid.evaluation.thresholds import Threshold, ThresholdStats, known, stats_at, thresholds
from crossreid.records import VISIBLE, UserError


def run(words: list[str]) -> None:
    parser = parsing.parser("compare", __doc__)
    parsing.add_model(parser)
    parser.add_argument("a", help="an image of a person")
    parser.add_argument("b", help="another")
    parser.add_argument(
        "--modality",
        type=parsing.modality,
        metavar="WORD",
        nargs="+",
        help="visible or infrared, of both, or of A and of B (default: by their folders)",
    )
    parser.add_argument(
        "--false-positive",
        type=float,
        metavar="RATE",
        help="also say whether the two count as one person, where at most this share of pairs of two people does",
    )
    parsing.add_use(parser, batch=False)
    chosen = parser.parse_args(words)
    if len(chosen.modality or ()) > 2:
        raise UserError(
            f"--modality names {len(chosen.modality)} modalities: give one for both images, or one for each"
        )
    from crossreid.data.modality import modality_of
    from crossreid.images.decode import decode

    pair = (chosen.a, chosen.b)
    # Before the model is loaded, so that a wrong name is told at once.
    pixels = [decode(path) for path in pair]
    embedder = parsing.opened(chosen, chosen.modality or ())
    modality = chosen.modality
    if modality is None and len(embedder.modalities) > 1:
        try:
            modality = [modality_of(path) for path in pair]
        except UserError as error:
            raise UserError(
                f"this model treats visible and infrared images differently, and the folders of {chosen.a} and "
                f"{chosen.b} do not say which they are: give --modality visible, --modality infrared, or one for each, "
                "such as --modality visible infrared"
            ) from error
    elif modality is not None:
        modality = (modality * 2)[:2]
    one, other = embedder(pixels, modality)
    distance = max(0.0, float(1 - one @ other))  # rounding can leave a little less than none
    points, source = known(chosen.model, embedder.fingerprint, embedder.feature)
    kinds = tuple(modality or (VISIBLE, VISIBLE))
    stats = stats_at(points, distance, kinds)
    if points and not stats:
        source += f" compared no {kinds[0]} images with {kinds[1]} ones"
    answer, _, rates = words_for(distance, stats, source).partition("\n")
    print(answer)
    if (rate := chosen.false_positive) is not None:
        print(decision(distance, thresholds(points, rate, kinds), rate, source))
    print(rates)


def words_for(distance: float, stats: list[ThresholdStats], source: str) -> str:
    """What can be said of two images at this distance.

    stats: what a threshold there did in the subsets of the model's evaluation that compared such images; source: which
    evaluation that is, or why there is none.
    """
    lines = [
        f"cosine similarity {1 - distance:.4f}, distance {distance:.4f} (0 alike, 1 unrelated, 2 opposite)"
    ]
    if not stats:
        lines.append(f"What this distance is worth is not known: {source}.")
        return "\n".join(lines)
    lines.append(
        f"A threshold at this distance, in the evaluation of this model ({source}), would have accepted"
    )
    for each in stats:
        true = _share(each.true_positive, each.genuine)
        false = _share(each.false_positive, each.impostor)
        lines.append(f"  {each.subset}: {true} pairs of one person, {false} pairs of two people")
    lines.append(
        "These are rates over the people and cameras of that evaluation; other places have other rates. They do not "
        "say whether these two images show one person."
    )
    return "\n".join(lines)


def decision(distance: float, found: list[Threshold], rate: float, source: str) -> str:
    """Whether two images at this distance count as one person, by the threshold of each subset and the strictest of
    them."""
    if not found:
        return f"Neither accepted nor rejected: no threshold is known, since {source}."
    strictest = min(found, key=lambda each: each.distance)
    word = "accepted" if strictest.accepts(distance) else "rejected"
    lines = [
        f"{word} as one person: the distance {distance:.4f} is {'below' if word == 'accepted' else 'not below'} the "
        f"threshold {strictest.distance:.4f}, which accepts at most {100 * rate:g} % of pairs of two people"
    ]
    for each in found:
        lines.append(
            f"  {each.subset}: threshold {each.distance:.4f} accepts "
            f"{_share(each.true_positive, each.genuine)} pairs of one person and at most "
            f"{100 * each.false_positive:.2g} % of {each.impostor} pairs of two people"
        )
    return "\n".join([*lines, f"Measured in {source}."])


def _share(share: float, pairs: int) -> str:
    if share < 1 / pairs:
        return f"none of {pairs}"
    percent = 100 * share
    # Two digits of small shares, one behind the point of others.
    digits = 0 if percent == 100 else 1 if percent >= 1 else 1 - math.floor(math.log10(percent))
    return f"{percent:.{digits}f} % of {pairs}"
