"""Make one embedding of each tracklet that a tracker followed in one camera.

examples:
    crossreid tracklets small boxes.txt --frames front.mp4 --camera front --out front.npz
    crossreid tracklets small MOT17-02 --out street.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

from crossreid.commands import parsing
from crossreid.records import UserError


def run(words: list[str]) -> None:
    parser = parsing.parser(
        "tracklets", __doc__, "`crossreid link` then puts those of several cameras together."
    )
    parsing.add_model(parser)
    parser.add_argument(
        "source",
        help="boxes in the text format of MOTChallenge (frame, id, left, top, width, height); a folder of "
        "MOTChallenge with its seqinfo.ini; or, with --pattern, a folder of crops",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="the file to write")
    parser.add_argument("--frames", type=Path, help="folder or video that the boxes were made on")
    parser.add_argument("--camera", help="its name (default: that of the source)")
    parser.add_argument(
        "--fps", type=float, help="frames a second (default: what seqinfo.ini or the video says, else 25)"
    )
    parser.add_argument(
        "--start", help="when the video begins: 2026-11-21T04:30:00 (UTC), or seconds since 1970"
    )
    parser.add_argument(
        "--resolution",
        type=int,
        nargs=2,
        metavar=("WIDTH", "HEIGHT"),
        help="of the frames that the boxes were made on, where --frames has another",
    )
    parser.add_argument(
        "--pause",
        type=float,
        default=2.0,
        help="seconds after which a number that comes back is another person (default: %(default)s)",
    )
    parser.add_argument(
        "--pattern",
        help="how crops are named: a template such as '{camera}_{track}_{time}.jpg', or a regular expression with "
        "named groups; track, camera, time and frame are understood",
    )
    parser.add_argument(
        "--crops", type=int, default=5, help="best crops of each tracklet (default: %(default)s)"
    )
    parser.add_argument("--modality", type=parsing.modality, metavar="WORD", help="visible or infrared")
    parsing.add_use(parser, batch=True)
    chosen = parser.parse_args(words)
    for name in ("crops", "batch"):
        if getattr(chosen, name) < 1:
            raise UserError(f"--{name} is {getattr(chosen, name)}: expected 1 or more")
    if chosen.out.suffix.lower() != ".npz":
        raise UserError(f"{chosen.out} does not end in .npz: tracklets are kept in such a file")
    from crossreid.files import check_folder

    check_folder(chosen.out.absolute().parent)
    from crossreid import tracklets

    made = _crops(chosen) if chosen.pattern is not None else _boxes(chosen)
    tracklets.save(chosen.out, made)
    cameras = sorted({each.camera for each in made.items})
    print(
        f"{chosen.out}: {len(made)} tracklets of {'the camera' if len(cameras) == 1 else 'the cameras'} "
        f"{', '.join(cameras)}"
    )


def _boxes(chosen):
    from crossreid import tracklets
    from crossreid.images import mot, video
    from crossreid.images.timestamps import taken

    source, frames, size, rate = Path(chosen.source), chosen.frames, None, chosen.fps
    name = source.stem
    if source.is_dir():
        found = mot.sequence(source)
        name, source, size = found.name, found.boxes, found.size
        frames, rate = frames or found.images, found.rate if rate is None else rate
    if frames is None:
        raise UserError(
            f"the boxes of {source} lie in frames: say where these are, with --frames FOLDER or --frames VIDEO"
        )
    if not frames.exists():
        raise UserError(f"there is nothing at {frames}: the frames of the boxes are expected there")
    if rate is None and frames.is_file():
        rate = video.rate(frames)
        if rate is not None:
            print(f"{frames} has {rate:g} frames a second, by which times count", file=sys.stderr)
    if rate is None:
        rate = 25.0
        print("nothing says how many frames a second there are: 25 are taken (--fps)", file=sys.stderr)
    if not 0 < rate < 1e4 or not chosen.pause > 0:
        raise UserError(f"--fps is {rate:g} and --pause {chosen.pause:g}: expected numbers above 0")
    if chosen.resolution is not None:
        size = tuple(chosen.resolution)
        if min(size) < 1:
            raise UserError(f"--resolution is {size}: expected a width and a height in pixels")
    start = None if chosen.start is None else taken(chosen.start, "--start")
    tracks = mot.read(source, max(1, round(chosen.pause * rate)))
    return tracklets.of_tracks(
        tracks,
        frames,
        parsing.opened(chosen, [chosen.modality]),
        camera=chosen.camera or name,
        rate=rate,
        start=start,
        size=size,
        k=chosen.crops,
        modality=chosen.modality,
    )


def _crops(chosen):
    from crossreid import tracklets
    from crossreid.images.listing import named

    for name in ("frames", "fps", "start", "resolution"):
        if getattr(chosen, name) is not None:
            raise UserError(f"--{name} is of boxes in frames, and --pattern of crops: leave one of them out")
    images = named([chosen.source], chosen.pattern, chosen.modality)
    embedder = parsing.opened(chosen, [chosen.modality])
    return tracklets.of_crops(
        images, embedder, camera=chosen.camera or "", k=chosen.crops, modality=chosen.modality
    )
