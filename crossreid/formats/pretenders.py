"""Files that a weight file often turns out to be: a pointer of Git LFS, a web page, nothing."""

from __future__ import annotations

import re
from pathlib import Path

from crossreid import files
from crossreid.records import UserError

_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml")


def refuse_pretender(path: Path) -> None:
    """Raise UserError that calls the file what it is, where that is no weight file at all."""
    with files.opened(path) as file:
        head = file.read(1024)
    if head.startswith(b"version https://git-lfs"):
        size = re.search(rb"size (\d+)", head)
        whole = f" of {int(size[1]):,} bytes" if size else ""
        raise UserError(
            f"{path} is a Git LFS pointer, a few lines of text in the place of the file{whole}: its repository was "
            "copied without the large files. Run `git lfs pull` in that copy, or download the file itself"
        )
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        raise UserError(
            f"{path} is a saved web page and holds no weights: the address that it was downloaded from answered with a "
            "page, perhaps one to sign in or to confirm. Open that address in a browser and download the file itself"
        )
    if not head:
        raise UserError(f"{path} is empty: copy or download it again")
