"""Exported models are used where numpy, Pillow and onnxruntime are the only packages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported_models import checkpoint_file, exported
from PIL import Image as PILImage

import crossreid
from crossreid import synthetic

# Refuses every package but these three and what onnxruntime itself is installed with.
BLOCKER = """
import sys
from importlib.abc import MetaPathFinder

known = {"numpy", "PIL", "onnxruntime", "flatbuffers", "google", "packaging", "crossreid"} | sys.stdlib_module_names

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in known:
            raise ModuleNotFoundError(f"{name} is not there", name=name)

for name in [name for name in sys.modules if name.partition(".")[0] not in known | {"__main__"}]:
    del sys.modules[name]
sys.meta_path.insert(0, Refuse())
"""
COMMAND = "from crossreid.__main__ import main\nsys.exit(main())"


def without_torch(code, *words, cwd):
    command = [sys.executable, "-c", BLOCKER + code, *map(str, words)]
    environment = {"PYTHONPATH": str(Path(crossreid.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def agw(tmp_path_factory):
    return exported(tmp_path_factory, "agw")


def test_the_blocker_blocks(tmp_path):
    for package in ("torch", "yaml", "tqdm", "scipy", "numba"):
        assert "is not there" in without_torch(f"import {package}", cwd=tmp_path).stderr


def test_vectors_are_those_of_the_checkpoint(agw, tmp_path):
    for number in range(3):
        crop = synthetic.render(synthetic.person(number), synthetic.camera(1), number)
        PILImage.fromarray(crop).save(tmp_path / f"{number}.png")
    code = """
import numpy, crossreid
embed = crossreid.Embedder(sys.argv[1])
numpy.save("vectors.npy", embed(["0.png", "1.png", "2.png"], modality=["visible", "infrared", "visible"]))
print(embed.name, embed.dimension, embed.fingerprint, embed.modalities)
"""
    outcome = without_torch(code, agw[1], cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    embed = crossreid.Embedder(agw[0])
    assert outcome.stdout.strip() == f"{embed.name} {embed.dimension} {embed.fingerprint} {embed.modalities}"
    expected = embed([tmp_path / f"{number}.png" for number in range(3)], ["visible", "infrared", "visible"])
    assert np.linalg.norm(np.load(tmp_path / "vectors.npy") - expected, axis=1).max() < 1e-4


def test_two_images_are_compared_and_features_written_and_scoring_says_what_it_needs(agw, market, tmp_path):
    images = sorted((market / "query").glob("*.jpg"))[:2]
    outcome = without_torch(
        COMMAND, "compare", agw[1], *images, "--modality", "visible", "--false-positive", "0.01", cwd=tmp_path
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "cosine similarity" in outcome.stdout and "no threshold is known" in outcome.stdout
    words = ["embed", agw[1], market / "query", "--modality", "visible", "--out", "q.npz"]
    outcome = without_torch(COMMAND, *words, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert np.load(tmp_path / "q.npz")["vectors"].ndim == 2
    outcome = without_torch(COMMAND, "evaluate", agw[1], cwd=tmp_path)
    assert outcome.returncode == 2 and "scoring needs torch" in outcome.stderr


def test_the_command_line_says_what_is_there_and_what_a_checkpoint_needs(agw, tmp_path):
    outcome = without_torch(COMMAND, "--help", cwd=tmp_path)
    assert outcome.returncode == 0 and "export" in outcome.stdout, outcome.stderr
    file = checkpoint_file(tmp_path / "m.pt", "agw")
    outcome = without_torch("import crossreid\ncrossreid.Embedder(sys.argv[1])", file, cwd=tmp_path)
    assert "needs torch" in outcome.stderr and "crossreid export" in outcome.stderr
