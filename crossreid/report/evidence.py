"""What a run's folder holds besides numbers: vectors, the trained model, and through its settings the protocol."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from crossreid.formats.arrays import read_npz
from crossreid.records import MODALITIES, Metric, UserError, dense_numbers
from crossreid.report.runs import Run, image_of

if TYPE_CHECKING:
    from crossreid.evaluation.stored import Recorded
    from crossreid.protocols.base import Protocol

LABELS = ("identity", "camera", "modality", "domain")


@dataclass(frozen=True)
class Features:
    """The vectors of a protocol's images, in its order.

    vectors: (N, D). stripes: (N, S, C) or None. labels: ``identity`` and, where known, ``camera``, ``modality`` and
        ``domain`` -> (N,). split: of the data set. name: which of the method's features. protocol, metric: who is
        searched for where and how vectors are compared; None where the file does not say.
    """

    vectors: np.ndarray
    stripes: np.ndarray | None
    labels: dict[str, np.ndarray]
    split: str
    name: str
    protocol: Protocol | Recorded | None = None
    metric: Metric | None = None

    def people(self) -> np.ndarray:
        """(N,) a number for each person; the same identity in two domains is two people."""
        return dense_numbers(self.labels["domain"], self.labels["identity"])

    def searched(self) -> np.ndarray:
        """(N,) whether the image shows a person who is searched for. Others need not be a person at all: the
        distractors of Market-1501 have one number in common."""
        if self.protocol is None:
            return np.ones(len(self.vectors), bool)
        person = self.people()
        queries = np.concatenate([np.asarray(trial.query) for trial in self.protocol.trials()])
        return np.isin(person, person[queries])


def features(run: Run, name: str | None = None) -> Features | None:
    """The stored vectors of the run; with ``name`` those of that feature, embedded again where another one is
    stored. None where nothing is stored and nothing was asked for."""
    stored = read_features(run.features, run.evaluation.get("feature")) if run.features else None
    return stored if name is None or (stored is not None and stored.name == name) else embed_again(run, name)


def read_features(path: Path, name: str | None = None) -> Features:
    """name: what the vectors are called where the file does not say."""
    expected = (
        "a NumPy archive with vectors and identity was expected. Write it again with `crossreid evaluate`, or take it "
        "away to have a report without its map."
    )
    found = read_npz(path, expected, (*LABELS, "split", "feature", "record"))
    whole = "record" in found
    vectors = None if whole else read_npz(path, expected, ("vectors",)).get("vectors")
    stored = None
    if whole:
        from crossreid.evaluation.features import read_stored

        stored = read_stored(path)
        vectors = stored.embedding.feature.numpy()
    count = 0 if vectors is None else len(vectors)
    labels = {key: found[key] for key in LABELS if key in found}
    if vectors is None or "identity" not in labels or any(each.shape != (count,) for each in labels.values()):
        raise UserError(
            f"{path} does not hold what a map needs: vectors (N, D) and identity (N,), with camera, modality "
            "and domain (N,) where they are known, were expected. Write it again with `crossreid evaluate`, "
            "or take it away."
        )
    labels.setdefault("domain", np.zeros(count, np.int64))
    if "modality" in labels and labels["modality"].dtype.kind in "iu":
        labels["modality"] = np.array(MODALITIES)[labels["modality"]]
    split, name = str(found.get("split", "test")), str(found.get("feature", name or "vector"))
    if stored is None:
        return Features(vectors, None, labels, split, name)
    stripes = None if stored.embedding.stripes is None else stored.embedding.stripes.numpy()
    return Features(vectors, stripes, labels, split, name, stored.protocol, stored.choose()[1])


def embed_again(run: Run, name: str) -> Features:
    """Vectors of all of the protocol's images by the run's checkpoint."""
    from crossreid import evaluation
    from crossreid.engine import Engine

    engine = Engine()
    print(f"the model runs on {engine.device}", file=sys.stderr)
    method, data = _model(run).to(engine.device), protocol(run)
    evaluation.check_feature(method, name)
    inputs = SimpleNamespace(**method.input, workers=run.settings["data"].get("workers", 0))
    found = evaluation.embed(method, data.images, inputs, engine, feature=name)
    labels = {key: np.array([getattr(image, key) for image in data.images]) for key in LABELS}
    stripes = None if found.stripes is None else found.stripes.numpy()
    return Features(found.feature.numpy(), stripes, labels, "test", name, data, method.metric(name))


def weights(run: Run) -> Path | None:
    """The checkpoint that was evaluated, else the last, where the folder still holds it."""
    for name in (Path(str(run.evaluation.get("checkpoint", "last.pt"))).name, "last.pt", "best.pt"):
        if (run.folder / name).is_file():
            return run.folder / name
    return None


def with_model(runs: Sequence[Run]) -> Iterator[tuple[Run, Sequence[dict]]]:
    """The runs that hold ranked lists and a trained model, each with its lists."""
    for run in runs:
        lists = run.evaluation.get("ranked") or ()
        if lists and weights(run) is not None:
            yield run, lists


def model(run: Run):
    """The trained method of the run, on the CPU; it is read once."""
    if "model" not in run.loaded:
        run.loaded["model"] = _model(run)
    return run.loaded["model"]


def _model(run: Run):
    from crossreid import checkpoint

    path = weights(run)
    if path is None:
        raise UserError(
            f"{run.folder} holds no checkpoint: last.pt or best.pt was expected beside its config.yaml. Put it "
            "there, or have the report without the figures that need the model."
        )
    return checkpoint.load(path)


def protocol(run: Run):
    """The protocol that the run's settings name, over the data set where they say it is."""
    from crossreid import protocols

    tree = run.settings
    if not isinstance(tree.get("protocol"), dict) or not isinstance(tree.get("data"), dict):
        raise UserError(
            f"{run.folder} does not say by which protocol it was evaluated: config.yaml with data and protocol was "
            "expected. Give the folder that `crossreid train` or `crossreid evaluate --out` has written."
        )
    given = dict(tree["protocol"])
    return protocols.build(given.pop("name"), given, tree["data"].get("roots"), fold=tree["data"].get("fold"))


def first_of_each_kind(lists: Sequence[dict]) -> list[dict]:
    """Of the ranked lists of the first subset, the first good, median and worst one."""
    first = [each for each in lists if each["subset"] == lists[0]["subset"]]
    return list({each["kind"]: each for each in reversed(first)}.values())[::-1]


def shown(run: Run, records, method):
    """Images of ranked lists as the method takes them: pixels (N, H, W, 3) uint8 at its size, the normalised
    tensor (N, 3, H, W), and the modalities (N,) as indices."""
    import torch

    from crossreid.data.on_device import normalise
    from crossreid.data.transforms import resized
    from crossreid.images.reading import read

    inputs = SimpleNamespace(**method.input)
    images = []
    for record in records:
        image = image_of(run, record)
        if image is None:
            raise UserError(
                f"{record['path']} lies neither below the data of the run nor in its folder, and no other images are "
                "shown"
            )
        images.append(image)
    pixels = resized([read(each) for each in images], inputs)
    modality = torch.tensor([MODALITIES.index(each.modality) for each in images])
    return pixels.permute(0, 2, 3, 1).numpy(), normalise(pixels, inputs), modality
