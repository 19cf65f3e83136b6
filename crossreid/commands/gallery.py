"""Show what a gallery holds, change or delete entries, or prepare approximate search.

examples:
    crossreid gallery info people.gallery
    crossreid gallery update people.gallery --camera 3 --set camera=door
    crossreid gallery delete people.gallery --older-than 30d --yes
    crossreid gallery index people.gallery
"""

from __future__ import annotations

import time
from pathlib import Path

from crossreid.commands import filters, parsing
from crossreid.files import printable
from crossreid.records import UserError, counted


def run(words: list[str]) -> None:
    parser = parsing.parser("gallery", __doc__)
    acts = parser.add_subparsers(dest="act", required=True, metavar="info|update|delete|index")
    info = acts.add_parser("info", help="how many entries, of which model, cameras and times")
    update = acts.add_parser("update", help="change columns of entries, without embedding anything again")
    delete = acts.add_parser("delete", help="remove entries by age, person, or anything else, from disk too")
    index = acts.add_parser("index", help="build the index of approximate search and measure its recall")
    for act in (info, update, delete, index):
        act.add_argument("place", nargs="?", metavar="PLACE", help=f"{filters.PLACE}; or with --gallery")
        act.add_argument("--gallery", metavar="PLACE", help="the same, as all other commands have it")
    filters.add_filter(delete, "deleted")
    update.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="CSV with a column key or path, and the columns to change; an empty field takes a column away",
    )
    update.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="of all entries chosen below; may be repeated",
    )
    filters.add_filter(update, "changed by --set")
    delete.add_argument(
        "--older-than",
        metavar="AGE",
        help="taken (or, where that is not known, added) longer ago: 30d, 12h, 2w, 1y",
    )
    delete.add_argument("--all", action="store_true", help="every entry")
    delete.add_argument("--yes", action="store_true", help="do it, and not only say how many they are")
    parsing.show_examples(acts, "gallery", __doc__)
    chosen = parser.parse_args(words)
    if (chosen.place is None) == (chosen.gallery is None):
        raise UserError(f"which gallery? Name one: crossreid gallery {chosen.act} --gallery PLACE")
    place = chosen.gallery if chosen.place is None else chosen.place
    from crossreid.gallery import Gallery

    reading = chosen.act == "info" or (chosen.act == "delete" and not chosen.yes)
    if chosen.act == "delete":
        condition = _condition(chosen)
    with Gallery.open(place, read_only=reading) as gallery:
        if chosen.act == "info":
            print(_described(gallery.info()))
        elif chosen.act == "update":
            print(f"{counted(_update(gallery, chosen), 'entry')} changed")
        elif chosen.act == "index":
            gallery.build_index()
            print(f"approximate search finds {_found(gallery.info())}; use it with --approximate")
        elif not chosen.yes:
            print(f"{counted(gallery.count(condition), 'entry')} would be deleted; --yes deletes them")
        else:
            count = gallery.delete(condition)
            left = gallery.count(condition)
            if left:
                raise UserError(
                    f"{count} entries were deleted, and {left} that match came in meanwhile: stop what "
                    "adds them, and delete again"
                )
            remain = gallery.info().entries
            if count:
                print(f"{counted(count, 'entry')} deleted; none that match is left, and {remain} remain")
            else:
                print(f"nothing was deleted: none of the {counted(remain, 'entry')} fits these conditions")


def _update(gallery, chosen) -> int:
    from crossreid.gallery import updating

    if (chosen.table is None) == (not chosen.set):
        raise UserError("say what to change: --table FILE, or --set NAME=TEXT and which entries are meant")
    condition = filters.chosen_filter(chosen)
    if chosen.table is not None:
        if condition:
            raise UserError("--table names the entries itself: leave out --camera and the other conditions")
        return updating.by_table(gallery, chosen.table)
    texts = filters.pairs(chosen.set, "--set")
    if not condition:
        raise UserError("say which entries --set means: --camera NAME, --identity NAME or another condition")
    return updating.by_filter(gallery, condition, texts)


def _condition(chosen):
    from dataclasses import replace

    from crossreid.gallery.gallery import DAY
    from crossreid.images.timestamps import days

    condition = filters.chosen_filter(chosen)
    if chosen.older_than is not None:
        condition = replace(condition, expired=time.time() - days(chosen.older_than) * DAY)
    if bool(condition) == chosen.all:
        raise UserError(
            "say which entries to delete: --older-than 30d, --identity NAME, or another condition; or --all for every "
            "entry, which takes no condition"
        )
    return condition


def _described(info) -> str:
    from crossreid.images.timestamps import written

    span = f"{written(info.first)} to {written(info.last)}" if info.first is not None else "none known"
    lines = {
        "gallery": info.where,
        "kept by": info.store,
        "entries": info.entries,
        "model": f"{info.model or 'without a name'}, fingerprint {info.fingerprint[:16]}",
        "vectors": f"{info.dimension} numbers",
        "cameras": _few(info.cameras),
        "modalities": _few(info.modalities),
        "times (UTC)": span,
        "columns": _few(info.columns),
        "index": "none, search is exact"
        if info.recall is None
        else f"finds {_found(info)} when asked for with --approximate",
    }
    return "\n".join(f"{name:<12} {value}" for name, value in lines.items())


def _found(info) -> str:
    within = "" if info.recall_within is None else f", {info.recall_within:.1%} within a filter"
    return f"{info.recall:.1%} of the true first 20{within}"


def _few(names, limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(map(printable, names[:limit])) or "none") + more
