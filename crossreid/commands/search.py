"""Search a gallery for the person in an image.

examples:
    crossreid search small query.jpg --gallery people.gallery --top 5
    crossreid search small query.jpg --gallery people.gallery --camera 2 5 --html list.html
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from crossreid.commands import filters, parsing
from crossreid.records import UserError, check_choice


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = parsing.parser("search", __doc__)
    parser.add_argument(
        "model", help="the model the gallery was made with: a checkpoint, an exported model, or small"
    )
    parser.add_argument("image", help="the person to look for")
    parser.add_argument("--gallery", required=True, help=filters.PLACE)
    parser.add_argument("--top", type=int, default=20, help="length of the list (default: %(default)s)")
    parser.add_argument(
        "--query-modality",
        type=parsing.modality,
        metavar="WORD",
        help="visible or infrared (default: by its folder)",
    )
    parser.add_argument(
        "--box",
        type=int,
        nargs=4,
        metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="where in the image the person is",
    )
    filters.add_filter(parser, "looked through")
    parser.add_argument(
        "--rerank", action="store_true", help="order the first 200 by k-reciprocal re-ranking"
    )
    parser.add_argument(
        "--approximate", action="store_true", help="use the index that `crossreid gallery index` built"
    )
    parser.add_argument("--json", action="store_true", help="print JSON and not a table")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the list as a table")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="also write it as a page with the images in it"
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="with --html: the folder below which the images lie; without it the small copies in the gallery are shown",
    )
    parsing.add_use(parser, batch=False)
    return parser.parse_args(words)


def run(words: list[str]) -> None:
    chosen = _parsed(words)
    from crossreid.files import check_folder

    for out, suffixes in ((chosen.csv, (".csv",)), (chosen.html, (".html", ".htm"))):
        if out is None:
            continue
        if out.suffix.lower() not in suffixes:
            raise UserError(
                f"{out} does not end in {' or '.join(suffixes)}: it would be taken for something else"
            )
        if out.is_dir():
            raise UserError(f"{out} is a folder: give the name of a file to write")
        if not out.absolute().parent.is_dir():
            raise UserError(f"the folder of {out} does not exist: make it first")
        check_folder(out.absolute().parent)
    filters.check_images(chosen.images)
    from crossreid.gallery import Gallery, lists
    from crossreid.images.decode import crop, decode

    condition = filters.chosen_filter(chosen)
    pixels = decode(chosen.image)
    if chosen.box is not None:
        pixels = crop(pixels, chosen.box)
    embedder = parsing.opened(chosen)
    modality = _modality(chosen, embedder)
    with Gallery.open(chosen.gallery, fingerprint=embedder.fingerprint, read_only=True) as gallery:
        for column in condition.columns:
            check_choice("--column", column, gallery.info().columns)
        (hits,) = gallery.search(
            embedder([pixels], modality=modality), chosen.top, condition, chosen.approximate, chosen.rerank
        )
        if chosen.html is not None:
            lists.write_html(chosen.html, chosen.image, pixels, modality, hits, gallery, chosen.images)
        if chosen.csv is not None:
            lists.write_csv(chosen.csv, hits)
    if chosen.json:
        text = json.dumps([lists.record(hit) for hit in hits], indent=1, ensure_ascii=False)
        # JSON itself escapes the controls below 32 only.
        print(re.sub("[\x7f-\x9f\u202a-\u202e]", lambda found: f"\\u{ord(found[0]):04x}", text))
    elif hits:
        print(lists.hit_table(hits))
    else:
        print("no entry of the gallery is within the filter" if condition else "the gallery is empty")


def _modality(chosen, embedder) -> str | None:
    """Of the query: as given, or by its folder; None where neither says and the model does not need it."""
    if chosen.query_modality is not None:
        return chosen.query_modality
    from crossreid.data.modality import modality_of

    try:
        return modality_of(chosen.image)
    except UserError:
        if len(embedder.modalities) < 2:
            return None
        raise UserError(
            f"this model treats visible and infrared images differently, and nothing says which {chosen.image} is: "
            "give --query-modality visible or --query-modality infrared"
        ) from None
