"""Signals that reach the training process and its workers alike leave a run that can be resumed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from crossreid import checkpoint

CODE = """
import multiprocessing, sys
from crossreid.__main__ import main
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv.pop(1))
    sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_saves(settings_file, tmp_path, method, number):
    run, script = tmp_path / "run", tmp_path / "started.py"
    script.write_text(CODE)
    words = [sys.executable, str(script), method, "train", str(settings_file), "--run", str(run)]
    words += ["--train.epochs", "100000", "--data.workers", "2"]
    process = subprocess.Popen(
        words,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
    )
    patience = time.monotonic() + 300
    while not (run / "last.pt").exists() and time.monotonic() < patience and process.poll() is None:
        time.sleep(0.2)
    os.killpg(process.pid, number)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 130, text
    assert "everything is saved" in text and "Traceback" not in text
    assert checkpoint.read(run / "last.pt")["training"]["epoch"] >= 1
