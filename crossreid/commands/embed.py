"""Write the embeddings of images to a file.

Continues after an interruption when it is given again.

examples:
    crossreid embed small people --out vectors.npz
    crossreid embed runs/agw/last.pt boxes.csv --out vectors.csv --skip-bad
    crossreid embed runs/agw/last.pt s3://bucket/people --out vectors --ray head:6379
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from crossreid.commands import parsing
from crossreid.files import several
from crossreid.records import UserError, counted


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = parsing.parser(
        "embed", __doc__, "Given again after an interruption, the same command goes on where it was."
    )
    parsing.add_model(parser)
    parser.add_argument(
        "images",
        nargs="+",
        help="images, folders, patterns such as 'shop/*.jpg', or tables (CSV, Parquet, Lance) with a column path and "
        "perhaps identity, camera, time, modality, x0, y0, x1, y1 (a box in pixels), and any others, which are carried "
        "over; or addresses of these, such as s3://bucket/people",
    )
    parser.add_argument(
        "--out",
        required=True,
        help="what to write: .npz (everything), .csv, or .npy (vectors alone); with --ray a folder of Parquet files",
    )
    parser.add_argument(
        "--modality",
        type=parsing.modality,
        metavar="WORD",
        help="visible or infrared, of all images of which no table says another",
    )
    parser.add_argument(
        "--keep-junk", action="store_true", help="also lines of a table that have the identity -1"
    )
    parsing.add_use(parser, batch=True)
    parser.add_argument(
        "--half", action="store_true", help="stripes (AlignedReID++) in float16, half of the size"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out images that cannot be read, and list them"
    )
    parsing.add_ray(parser)
    return parser.parse_args(words)


def run(words: list[str]) -> None:
    chosen = _parsed(words)
    if chosen.batch < 1:
        raise UserError(f"--batch is {chosen.batch}: expected 1 or more")
    if chosen.ray is not None:
        _run_on_ray(chosen)
        return
    from crossreid.files import is_address

    if is_address(chosen.out):
        raise UserError(
            f"--out is {chosen.out}, and one process writes into a folder of this computer: give such a name, or --ray"
        )
    chosen.out = Path(chosen.out)
    from crossreid.embedding_files import check_output, embed_files, part_of
    from crossreid.images.listing import listed
    from crossreid.images.reading import unreadable

    check_output(chosen.out)
    if any(Path(source).resolve() == chosen.out.resolve() for source in chosen.images):
        raise UserError(f"{chosen.out} is read and would be overwritten: give the output another name")
    images = listed(chosen.images, chosen.modality, chosen.keep_junk)
    bad = unreadable(images)
    if bad and not chosen.skip_bad:
        raise UserError(
            f"{len(bad)} of {len(images)} images cannot be read: {several(list(bad.values()))}. Nothing was embedded "
            "yet: mend or remove them, or leave them out with --skip-bad."
        )
    if len(bad) == len(images):
        raise UserError(f"no image can be read: {several(list(bad.values()))}.")
    embedder = parsing.opened(chosen, [chosen.modality])
    try:
        done = embed_files(
            images,
            embedder,
            chosen.out,
            skip_bad=chosen.skip_bad,
            batch=chosen.batch,
            half_stripes=chosen.half,
        )
    except KeyboardInterrupt:
        if part_of(chosen.out).exists():
            print(
                f"\nthe vectors made so far are kept in {part_of(chosen.out)}; give the same command again to go on",
                file=sys.stderr,
            )
        raise
    made = done.rows - done.kept
    kept = f"; {done.kept} of them by an earlier run" if done.kept else ""
    rate = (
        f" ({made} in {done.seconds:.1f} s, {made / done.seconds:.0f} a second{kept})" if done.seconds else ""
    )
    print(f"wrote {done.written}: {counted(done.rows, 'vector')} of {embedder.dimension} numbers{rate}")
    where = done.written if done.written.suffix.lower() == ".npz" else f"{done.written}.skipped.csv"
    _tell_skipped(done.skipped, len(images), where)


def _run_on_ray(chosen: argparse.Namespace) -> None:
    from crossreid import on_ray
    from crossreid.embedding_files import OUTPUTS
    from crossreid.files import place
    from crossreid.images.listing import listed

    folder = place(chosen.out).absolute()
    if folder.suffix in OUTPUTS:
        raise UserError(
            f"--out is {chosen.out}: with --ray the name of a folder is expected, for files of Parquet"
        )
    with on_ray.connected(chosen.ray):
        from crossreid.fragments import SKIPPED, embed_fragments

        images = listed(chosen.images, chosen.modality, chosen.keep_junk)
        embedder = parsing.opened(chosen, [chosen.modality], tell=False)
        try:
            done = embed_fragments(
                images,
                embedder,
                on_ray.maker(embedder, chosen.model, chosen.device, chosen.batch, chosen.feature),
                folder,
                batch=chosen.batch,
                half_stripes=chosen.half,
                accelerators=on_ray.takes_accelerators(embedder, chosen.device),
            )
        except KeyboardInterrupt:
            print(
                f"\nthe fragments made so far are kept in {folder}; give the same command again to go on",
                file=sys.stderr,
            )
            raise
    made = done.rows - done.kept
    kept = f"; {done.kept} of them by an earlier run" if done.kept else ""
    machines = len({machine for machine, _ in done.workers})
    by = f"{counted(len(done.workers), 'process')} on {counted(machines, 'machine')}"
    print(
        f"wrote {chosen.out}: {counted(done.rows, 'vector')} of {embedder.dimension} numbers in "
        f"{counted(len(done.fragments), 'fragment')} ({made} in {done.seconds:.1f} s by {by}{kept})"
    )
    for note in done.notes[:3]:
        print(f"mind: {note}")
    _tell_skipped(done.skipped, len(images), folder / SKIPPED)


def _tell_skipped(skipped: list[tuple[str, str]], total: int, where: Path | str) -> None:
    if skipped:
        reasons = several([reason for _, reason in skipped])
        print(f"left out {len(skipped)} of {total} images, listed in {where}: {reasons}", file=sys.stderr)
