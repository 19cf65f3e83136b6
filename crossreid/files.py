"""Writing files whole or not at all, and opening those of others with care."""

from __future__ import annotations

import csv
import errno
import glob
import json
import os
import re
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from crossreid.records import UserError, pip_install

FULL = (errno.ENOSPC, errno.EDQUOT)
# So many files of a folder at an address are worth a list of it, whose answers hold a thousand files each: nobody knows
# how many others lie there. So many of fewer are asked for at once.
_MANY, _AT_ONCE = 1000, 16


class Unwritable(OSError, UserError):
    """A file that could not be written; ``errno`` and ``strerror`` say why, for those who have better words for it."""

    def __init__(self, path: Path, error: OSError):
        # NumPy's errors of a full disk have no number.
        full = error.errno in (None, *FULL)
        remedy = "make room there, or choose another place" if full else "choose another place"
        super().__init__(f"{path} could not be written ({error.strerror or error}): {remedy}")
        self.errno, self.strerror = error.errno, error.strerror

    def __str__(self) -> str:
        return self.args[0]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``; what is written there becomes ``path`` when the block ends without
    error.

    After an error nothing is left and ``path`` is as it was. Raises Unwritable when the file cannot be opened, written
    or given its name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and not isinstance(error, UserError):
            if error.filename in (None, str(temporary)):
                raise Unwritable(path, error) from error
        raise


def is_address(name: object) -> bool:
    """Whether a name is an address such as ``s3://bucket/people``, and not a place in a folder."""
    return "://" in str(name)


def place(name: str | Path) -> Path:
    """A path; of an address one of universal_pathlib, which fsspec opens. Only names that a user has given are made
    places; text that is an address is otherwise the name of a file, and nothing is fetched.

    Raises UserError where what this kind of address needs is not installed."""
    if not is_address(name):
        return Path(name)
    try:
        from upath import UPath

        found = UPath(str(name))
        _ = found.fs  # is what needs the package of this kind of address
    except Exception as error:
        raise UserError(
            f"{name} is an address that cannot be reached ({reason_of(error)}): "
            f"{pip_install('ray')}, or copy the files to a folder"
        ) from error
    return cast(Path, found)


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """A file to be read in binary. Raises UserError where there is none, or where it is a pipe or a device, which could
    keep whoever reads it waiting for ever."""
    if not isinstance(path, str | Path) and is_address(path):
        try:
            remote = _store(path).open(path.path, "rb")
        except Exception as error:  # each kind of store has its own
            raise _unanswered(path, error) from error
        with remote:
            yield remote
        return
    descriptor = -1
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            # Should it have become a pipe in between, opening it does not wait.
            descriptor = os.open(
                path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path}: cannot be opened ({reason}); check the path, and whether you may read it"
        ) from error
    if descriptor < 0:
        raise UserError(f"{path}: cannot be opened (it is a folder, a pipe or a device); expected a file")
    with open(descriptor, "rb") as file:
        yield file


@contextmanager
def understood(path: str | Path, expected: str) -> Iterator[None]:
    """Turns whatever the readers of foreign files raise, which is nearly anything, into a UserError.

    expected: what the file should have been, and what to do.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        # What Python itself says of a value that is missing or odd means little without its name.
        if not reason or isinstance(error, (LookupError, TypeError, AttributeError)):
            reason = f"{type(error).__name__}: {reason}".removesuffix(": ")
        raise UserError(f"{path} cannot be read ({reason}): {expected}") from error


def piece(path: str | Path, start: int, length: int) -> bytes:
    """At most so many bytes of a file from a place on; of a file at an address only these are fetched."""
    if not isinstance(path, str | Path) and is_address(path):
        try:
            return _store(path).cat_file(path.path, start=start, end=start + length)
        except Exception as error:
            raise _unanswered(path, error) from error
    with opened(path) as file:
        file.seek(start)
        return file.read(length)


def _store(path) -> Any:
    """The file system of an address, as this process may use it: one that was made before a worker was forked waits for
    a thread which the worker does not have."""
    store = path.fs
    if getattr(store, "_pid", os.getpid()) == os.getpid():
        return store
    return type(store)(*store.storage_args, **store.storage_options)


def stats(paths: Iterable[Path]) -> dict[Path, os.stat_result]:
    """Size and time of each file that is there. At an address a folder of which a thousand files are meant is listed
    once; fewer files are asked for by their names."""
    asked = dict.fromkeys(paths)
    folders = Counter(cast(Any, path.parent) for path in asked if is_address(path))
    for folder, count in folders.items():
        if count >= _MANY:
            with suppress(Exception):  # what cannot be listed is asked for one by one
                folder.fs.ls(folder.path)  # whose file system keeps the answer
    if folders:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(_stat, asked))
    else:
        found = list(map(_stat, asked))
    return {path: known for path, known in zip(asked, found) if known is not None}


def _stat(path: Path) -> os.stat_result | None:
    with suppress(OSError, ValueError):  # the second of a name that no file can have
        return path.stat()
    return None


def _unanswered(path: object, error: Exception) -> UserError:
    return UserError(
        f"{path}: cannot be opened ({reason_of(error)}); check the address, and whether you may read it"
    )


def reason_of(error: Exception) -> str:
    """What an error says, on one line and not too long; its class where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def as_path(value: object, what: str) -> Path:
    """The path that was given. Raises UserError, which says what it should have led to, for anything that is none."""
    if isinstance(value, str | os.PathLike):
        return Path(value)
    raise UserError(f"{what} was given as {type(value).__name__}: expected its path, as text or pathlib.Path")


def legible(name: str) -> str:
    """A name from the file system as text that can be stored and sent: bytes that are no UTF-8 become ``\\xff``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def path_of(name: str) -> Path:
    """The path that ``legible`` made a text of."""
    path = Path(name)
    if "\\x" in name and not path.exists():
        escaped = re.sub(
            rb"\\x([89a-f][0-9a-f])",
            lambda found: bytes([int(found[1], 16)]),
            name.encode("utf-8", "replace"),
        )
        original = Path(os.fsdecode(escaped))
        if original.exists():
            return original
    return path


def printable(text: str) -> str:
    """Text for a terminal or a page: what would move its cursor, change its colours, or has no place in an SVG file is
    written out, line ends too."""
    return re.sub(
        "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]",
        lambda found: found[0].encode("unicode_escape").decode("ascii"),
        text,
    )


def isolated(text: str) -> str:
    """A name within the words of a page, which keep their direction whatever scripts and overrides it holds: an isolate
    of Unicode's bidirectional algorithm (UAX 9)."""
    own = re.sub("[\u2066-\u2069]", "", text)
    return f"\u2068{own}\u2069" if re.search("[^\0-\u024f]", text) else text


def several(reasons: Sequence[str], named: int = 5) -> str:
    """The first few reasons, as one paragraph."""
    more = f"; and {len(reasons) - named} more" if len(reasons) > named else ""
    return "; ".join(map(printable, reasons[:named])) + more


def cell(value):
    """A value for a CSV file. Text that a spreadsheet would run as a formula gets an apostrophe in front, as one types
    it there; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    value = legible(value)
    if value[:1] in ("=", "+", "-", "@", "\t", "\r", "'") and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def uncelled(text: str) -> str:
    """The text that ``cell`` was given."""
    return text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@", "\t", "\r", "'") else text


_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)")


def check_folder(folder: Path) -> None:
    """Make a folder where there is none. Raises UserError when no file can be written in it: a look ahead of long
    work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror or error
        raise UserError(
            f"{folder.absolute()} cannot be written to ({reason}): choose another place"
        ) from error


def check_room(folder: Path, size: int, remedy: str) -> None:
    """Raise UserError, which ends with the remedy, when the disk of a folder has less room than so many bytes: a look
    ahead of long work."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"{folder} has room for {free / 2**30:.1f} GiB, where {size / 2**30:.1f} are needed: make room there, "
            f"or {remedy}"
        )


def clear_leftovers(path: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote ``path``."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        leftover.unlink()


def clear_dead(path: Path) -> None:
    """Remove the temporary files and folders beside ``path`` of processes that were killed while they wrote it, and not
    those of processes that still do."""
    import psutil

    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        writer = leftover.name.split(".")[-2]
        if writer.isdecimal() and not psutil.pid_exists(int(writer)):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. In a store that has an address an object only ever appears whole."""
    if is_address(path):
        try:
            path.write_bytes(content)
        except Exception as error:  # each kind of store has its own
            raise UserError(
                f"{path} could not be written ({reason_of(error)}): choose another place"
            ) from error
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value) -> None:
    """Write a value as JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_rows(path: Path, heads: Iterable[str], rows: Iterable[Iterable]) -> None:
    """Write a CSV file in UTF-8, whole or not at all, with values as ``cell`` makes them."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(cell, heads))
        writer.writerows(map(cell, row) for row in rows)


def sync_folder(folder: Path, since: float) -> None:
    """Have the system write to the disk what changed in a folder since a moment, so that even a power cut keeps it."""
    if os.name != "posix":
        return
    for place, _, names in os.walk(folder):
        for path in (*(os.path.join(place, name) for name in names), place):
            # File systems may keep times to two seconds.
            if os.stat(path).st_mtime >= since - 2:
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
