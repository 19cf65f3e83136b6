"""A child process that feeds changed files to one reader: ``worker.py READER FOLDER FIRST LAST``.

Says in a line of JSON what went wrong with each input, if anything did, and in ``FOLDER/at`` which one it is at.
"""

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

# Of a processor for one input; and how much memory beyond four times the file.
SECONDS, KILLED, MEMORY = 5, 20, 96 * 2**20


def peak() -> int:
    """The most memory that this process has had since the last call, in bytes."""
    with open("/proc/self/status") as file:
        found = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return found * 1024


def held() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def main(name: str, folder: Path, first: int, last: int) -> None:
    import readers

    from crossreid.records import UserError

    warnings.simplefilter("ignore")
    reader = readers.READERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "sound"
    if not base.exists():
        reader.make(base)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    files = reader.files(base)
    for path in files if reader.alone else files[:1]:  # what is sound is read, and everything imported
        reader.read(path if reader.alone else base)
    refused = 0
    for number in range(first, last):
        (folder / "at").write_text(str(number))
        draw = random.Random(f"{name} {number}")
        path = files[number % len(files)]
        sound = path.read_bytes()
        changed = reader.change(path, sound, draw)
        path.write_bytes(changed)
        signal.setitimer(signal.ITIMER_PROF, KILLED)
        before, started = held(), time.process_time()
        peak()
        wrong = None
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                reader.read(path if reader.alone else base)
        except UserError as error:
            refused += 1
            if not str(error).strip() or "\n" in str(error).strip():
                wrong = f"not one paragraph: {error}"
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            ours = [
                each for each in traceback.extract_tb(error.__traceback__) if "crossreid" in each.filename
            ]
            place = ours[-1] if ours else place
            wrong = (
                f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:200]}"
            )
        seconds, memory = time.process_time() - started, peak() - before
        signal.setitimer(signal.ITIMER_PROF, 0)
        if wrong is None and seconds > SECONDS:
            wrong = f"took {seconds:.1f} s"
        if wrong is None and memory > 4 * len(changed) + MEMORY + getattr(reader, "memory", 0):
            wrong = f"took {memory / 2**20:.0f} MiB for a file of {len(changed)} bytes"
        if wrong is not None:
            answers.write(json.dumps({"input": number, "file": path.name, "wrong": wrong}) + "\n")
            answers.flush()
            if "KEEP" in os.environ:
                Path(os.environ["KEEP"], f"{name}-{number}{path.suffix}").write_bytes(changed)
        path.write_bytes(sound)
    answers.write(json.dumps({"done": last, "refused": refused}) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
