"""Say which tracklets of several cameras show one person.

examples:
    crossreid link front.npz back.npz --csv people.csv
    crossreid link front.npz back.npz --gallery people.gallery --travel seconds.csv
"""

from __future__ import annotations

from pathlib import Path

from crossreid.commands import filters, parsing
from crossreid.records import UserError, counted


def run(words: list[str]) -> None:
    parser = parsing.parser(
        "link",
        __doc__,
        "Given again with tracklets that came in later, people keep the identities they have.",
    )
    parser.add_argument("tracklets", nargs="+", type=Path, help="files that `crossreid tracklets` wrote")
    parser.add_argument("--gallery", help=f"where they are kept: {filters.PLACE}; made if it is not there")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a line for each tracklet")
    parser.add_argument(
        "--false-positive",
        type=float,
        default=1e-3,
        metavar="SHARE",
        help="the threshold is the distance at which the model's evaluation accepted this share of pairs of two people "
        "(default: %(default)s)",
    )
    parser.add_argument("--threshold", type=float, help="the distance itself, 0 to 2")
    parser.add_argument(
        "--travel",
        type=Path,
        metavar="FILE",
        help="CSV with from, to, seconds: the least time between two cameras",
    )
    chosen = parser.parse_args(words)
    if chosen.gallery is None and chosen.csv is None:
        raise UserError("say where the identities go: --gallery PLACE, --csv FILE, or both")
    if chosen.threshold is not None and not 0 < chosen.threshold <= 2:
        raise UserError(f"--threshold is {chosen.threshold:g}: expected a distance above 0 and up to 2")
    if chosen.csv is not None:
        from crossreid.files import check_folder

        check_folder(chosen.csv.absolute().parent)
    from crossreid import linking, tracklets

    travel = None if chosen.travel is None else linking.read_travel(chosen.travel)
    made = tracklets.joined([tracklets.load(path) for path in chosen.tracklets])
    how = {"threshold": chosen.threshold, "false_positive": chosen.false_positive, "travel": travel}
    if chosen.gallery is None:
        found = linking.link(made, **how)
    else:
        from crossreid.gallery.indexing import opened

        gallery, _ = opened(
            chosen.gallery, dimension=made.vectors.shape[1], fingerprint=made.fingerprint, model=made.model
        )
        with gallery:
            found = linking.link(made, gallery, **how)
    if chosen.csv is not None:
        linking.write_csv(chosen.csv, made, found)
    people, cameras = len(set(found.identities)), len({each.camera for each in made.items})
    print(
        f"{counted(len(made), 'tracklet')} of {counted(cameras, 'camera')} show "
        f"{'1 person' if people == 1 else f'{people} people'}, {found.new} of them new "
        f"(distance below {found.threshold:.4f}: {found.source})"
    )
