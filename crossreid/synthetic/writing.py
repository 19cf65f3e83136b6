"""Writing a synthetic data set to disk."""

from __future__ import annotations

import io
import os
import shutil
from functools import partial
from pathlib import Path

from PIL import Image

from crossreid.data import provenance
from crossreid.files import check_folder, clear_dead
from crossreid.records import UserError
from crossreid.synthetic.cameras import camera
from crossreid.synthetic.layouts import LAYOUTS
from crossreid.synthetic.people import person
from crossreid.synthetic.plans import Crop
from crossreid.synthetic.rendering import moment, render
from crossreid.synthetic.styles import Style, style


def write(
    name: str,
    root: Path | str,
    *,
    identities: int = 40,
    seed: int = 0,
    images: int | None = None,
    domain: int | str | Style | None = None,
    workers: int = 0,
    jitter: float = 1.0,
    progress: bool | None = None,
) -> Path:
    """Render a data set into ``root`` in the layout and with the file names of data set ``name``; returns
    the root.

    identities: how many persons, at least 4. images: of each person in each camera, the layout's usual number
        if None. domain: the style, another data set's name, an integer or a ``Style``, if not the data set's own.
    workers: processes to render with; 0 and 1 render here. The bytes do not depend on it. A script that asks
        for more must guard its entry with ``if __name__ == "__main__"``, as for any process pool.
    jitter: strength of the errors of the boxes, 0 to 2. progress: a bar; None shows it on a terminal.

    The data set appears under its name only when it is complete, with a file ``rendered.json`` that says what it is.
    Raises UserError if ``root`` holds anything.
    """
    if name not in LAYOUTS:
        raise UserError(f"No layout for a data set called {name!r}: expected one of {', '.join(LAYOUTS)}.")
    if identities < 4:
        raise UserError(f"A data set of {identities} identities cannot be split: ask for at least 4.")
    if images is not None and images < 1:
        raise UserError(f"images={images}: expected at least 1 image of each identity in each camera.")
    if workers < 0:
        raise UserError(
            f"workers={workers}: expected 0, to render in this process, or a number of processes."
        )
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(
            f"{root} is not empty: a synthetic data set is only written to a new or an empty folder."
        )
    domain = name if domain is None else domain
    called = style(domain, seed).name if isinstance(domain, Style) else domain
    plan = LAYOUTS[name](identities, images, seed)

    check_folder(root.parent)
    clear_dead(root)
    temporary = root.with_name(f".{root.name}.{os.getpid()}.part")
    temporary.mkdir()
    try:
        for path in {*(image.path for image in plan.images), *plan.files}:
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
        for folder in plan.folders:
            (temporary / folder).mkdir(parents=True, exist_ok=True)
        for path, content in plan.files.items():
            (temporary / path).write_bytes(content)
        _render_all(plan.images, partial(_save, temporary, seed, domain, jitter), workers, name, progress)
        if plan.finish is not None:
            plan.finish(temporary)
        provenance.mark(
            temporary, name, domain=called, identities=identities, images=images, seed=seed, jitter=jitter
        )
        temporary.chmod(0o755)
        if root.exists():
            root.rmdir()
        os.replace(temporary, root)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return root


def _render_all(images: list[Crop], save, workers: int, title: str, progress: bool | None) -> None:
    from tqdm import tqdm

    hidden = None if progress is None else not progress
    with tqdm(total=len(images), desc=title, unit=" images", disable=hidden) as bar:
        if workers <= 1:
            for image in images:
                save(image)
                bar.update()
            return
        from multiprocessing import get_context

        with get_context("spawn").Pool(workers) as pool:
            for _ in pool.imap_unordered(save, images, chunksize=16):
                bar.update()


def _save(root: Path, seed: int, domain: int | str | Style, jitter: float, image: Crop) -> None:
    (root / image.path).write_bytes(encode(image, seed, domain, jitter))


def encode(
    image: Crop, seed: int = 0, domain: int | str | Style = "market1501", jitter: float = 1.0
) -> bytes:
    """The bytes of one file of a data set."""
    who = person(image.identity, seed, domain)
    what = camera(image.camera, seed, domain, image.modality, image.place)
    view = moment(image.identity, image.index)
    pixels = render(
        who,
        what,
        view,
        size=image.size,
        jitter=jitter * image.jitter,
        yaw=image.yaw,
        occlusion=image.occlusion,
    )
    stream = io.BytesIO()
    suffix = image.path.rpartition(".")[2]
    if suffix in ("jpg", "jpeg"):
        Image.fromarray(pixels).save(stream, "JPEG", quality=what.quality)
    elif suffix == "png":
        # The fastest level: the usual one spends much of the time of rendering on somewhat smaller files.
        Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    else:
        Image.fromarray(pixels).save(stream, "BMP")
    return stream.getvalue()
