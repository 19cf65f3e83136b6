"""List, check, make or prepare data sets, or put them into shards.

examples:
    crossreid data list
    crossreid data make market1501 market --identities 24
    crossreid data check sysu_mm01 /data/SYSU-MM01
    crossreid data check folder people --settings.pattern '(?P<identity>-?\\d+)_c(?P<camera>\\d+)'
    crossreid data prepare market1501 market --size 256 128
    crossreid data shards market1501 market shards
    crossreid data index s3://bucket/shards --out shards.csv
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from crossreid import outside
from crossreid.commands import parsing
from crossreid.files import is_address, place
from crossreid.records import UserError


def run(words: list[str]) -> None:
    parser = parsing.parser("data", __doc__)
    acts = parser.add_subparsers(dest="act", required=True, metavar="|".join(ACTS))
    acts.add_parser("list", help="what is known of each data set, and where to apply for it")
    check = acts.add_parser("check", help="compare a copy on disk with what is known of the data set")
    make = acts.add_parser("make", help="write a synthetic copy in the data set's own layout")
    prepare = acts.add_parser(
        "prepare", help="decode images once, into arrays that training maps into memory"
    )
    shards = acts.add_parser(
        "shards", help="copy a data set into tars in the layout of WebDataset, with a table of what is where"
    )
    index = acts.add_parser("index", help="write the table of the images in such tars, wherever they lie")
    for act in (check, make, prepare, shards):
        act.add_argument("name", help="name of the data set, as `crossreid data list` shows it")
    where = "its folder, or a table of images, here or at an address"
    for act in (check, prepare):
        act.add_argument("root", nargs="?", help=f"{where} (default: its folder below $CROSSREID_DATA)")
    for act in (make, shards):
        act.add_argument("root", help=where)
    make.add_argument("--identities", type=int, default=40, help="how many people (default: %(default)s)")
    make.add_argument(
        "--seed", type=int, default=0, help="of everything that is drawn (default: %(default)s)"
    )
    make.add_argument("--images", type=int, help="images of a person in a camera (default: by data set)")
    make.add_argument(
        "--jitter", type=float, default=1.0, help="how badly boxes fit, 0 exactly (default: %(default)s)"
    )
    make.add_argument(
        "--workers", type=int, default=1, help="processes; the result is the same (default: %(default)s)"
    )
    prepare.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=(288, 144))
    prepare.add_argument(
        "--interpolation", choices=("bilinear", "bicubic", "lanczos"), help="default: by data set"
    )
    shards.add_argument("out", help="a new folder for the shards and index.csv")
    shards.add_argument(
        "--size", type=float, default=256, metavar="MB", help="of a shard, about (default: %(default)s)"
    )
    index.add_argument("places", nargs="+", help="tars, or folders of them; s3://... and the like by fsspec")
    index.add_argument("--out", help="the table (default: index.csv in the folder)")
    for act in (check, prepare, shards):
        act.epilog = "Settings of the data set's reader follow as --settings.NAME VALUE."
    parsing.show_examples(acts, "data", __doc__)
    chosen, rest = parsing.parse(parser, words)
    settings = parsing.reader_settings(rest)
    written = {"make": "root", "shards": "out"}.get(chosen.act)
    if written and is_address(vars(chosen)[written]):
        raise UserError(
            f"{vars(chosen)[written]} is an address, and this is written on this computer: give a folder here, "
            "and copy it there afterwards"
        )
    if "root" in chosen:
        outside.load_all(chosen.name)
        chosen.root = _root(chosen)
    ACTS[chosen.act](chosen, settings)


def _root(chosen: Namespace) -> Path:
    if chosen.root is not None:
        return place(chosen.root)
    from crossreid.data import locate

    return locate(chosen.name)


def _list(chosen: Namespace, settings: dict) -> None:
    from crossreid.data import describe

    print(describe())


def _check(chosen: Namespace, settings: dict) -> None:
    from crossreid.data import check, get

    findings = check(chosen.name, chosen.root, **settings)
    for finding in findings:
        print(finding.text if finding.severity == "note" else f"{finding.severity}: {finding.text}")
    found = {finding.severity for finding in findings}
    if "error" in found:
        if not get(chosen.name).expected or is_address(chosen.root) or not chosen.root.expanduser().exists():
            raise UserError(f"{chosen.name} in {chosen.root} cannot be used as it is; see above.")
        raise UserError(
            f"the copy of {chosen.name} in {chosen.root} is not complete or not as handed out; see above. "
            "(A synthetic copy never has the counts of the real one, and is usable all the same.)"
        )
    print(
        f"{chosen.name} in {chosen.root}: {'usable, see the warnings' if 'warning' in found else 'complete'}"
    )


def _make(chosen: Namespace, settings: dict) -> None:
    from crossreid.synthetic import write

    options = {name: vars(chosen)[name] for name in ("identities", "seed", "images", "jitter", "workers")}
    print(f"wrote {write(chosen.name, chosen.root, **options)}")


def _prepare(chosen: Namespace, settings: dict) -> None:
    from crossreid.data.prepare import prepare

    size = tuple(chosen.size)
    made = prepare(chosen.name, chosen.root, size=size, interpolation=chosen.interpolation, **settings)
    filtered = f" --data.interpolation {chosen.interpolation}" if chosen.interpolation else ""
    print(
        f"wrote {made}\nTrain from it with --data.prepared true --data.size '[{size[0]}, {size[1]}]'{filtered}"
    )


def _shards(chosen: Namespace, settings: dict) -> None:
    from crossreid.data import read
    from crossreid.data.shards import write

    splits = read(chosen.name, chosen.root, **settings)
    table = write(splits, Path(chosen.out), round(chosen.size * 1e6))
    print(f"wrote {table}\nTrain from it with --data.name csv --data.roots.csv {table}")


def _index(chosen: Namespace, settings: dict) -> None:
    from crossreid.data.shards import TABLE, index

    beside = chosen.places[0]
    if chosen.out is None and not Path(beside).is_dir():
        raise UserError(f"{beside} is no folder of this computer: say with --out where the table goes")
    print(f"wrote {index(chosen.places, chosen.out or Path(beside) / TABLE)}")


ACTS = {
    "list": _list,
    "check": _check,
    "make": _make,
    "prepare": _prepare,
    "shards": _shards,
    "index": _index,
}
