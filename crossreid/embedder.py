"""Images in, unit vectors out: the way a trained model is used."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from crossreid.bundled import exported_form, located
from crossreid.data.modality import modality_of
from crossreid.evaluation.thresholds import Threshold, known, strictest
from crossreid.export.using import Exported, is_exported
from crossreid.files import several, understood
from crossreid.images import frames, labels
from crossreid.images.reading import batches
from crossreid.images.resize import fit
from crossreid.records import MODALITIES, VISIBLE, Embedding, Image, Metric, UserError, check_choice


class Embedder:
    """A trained model as a function from images to vectors.

    path: a checkpoint, our own or one of a published system; a model that ``crossreid export`` wrote, its folder or one
        of its ``.onnx`` or ``.mindir`` files, for which torch need not be installed; or ``"small"`` or ``"base"``,
        which come with the library.
    device: where the network runs, such as ``"cpu"`` or ``"cuda"``; ``"auto"`` is the accelerator that torch finds, or
        else the CPU, which an exported model takes unless told otherwise. batch: images embedded at once.
    feature: one of the method's features; None is its default. An exported model has one, chosen then.
    settings: passed on to ``crossreid.load``.

    ``Embedder(path)(images)`` returns (N, D) float32 vectors of unit length. The network is always in evaluation
    mode, so an image has the same vector alone and among others, up to the rounding of the matrix product.

    dimension: D. fingerprint: which model this is, in hexadecimal digits; vectors of equal fingerprints can be
    compared, and an exported model has that of its checkpoint. modalities: what the model tells apart, ("visible",)
    if nothing. name, feature, device: of the model; runtime: torch, onnxruntime or MindSpore, which runs it. trained:
    what it learned from, empty when unknown.
    """

    def __init__(
        self, path: str | Path, device: str = "auto", batch: int = 64, feature: str | None = None, **settings
    ):
        if not isinstance(batch, int) or batch < 1:
            raise UserError(f"batch is {batch!r}: expected how many images are embedded at once, 1 or more")
        self._given = {"path": path, "device": device, "batch": batch, "feature": feature, **settings}
        self.batch, path = batch, located(path)
        self.path = path
        self._random = np.random.default_rng(0)
        self._model: Exported | Trained
        bundled = None if settings or feature else _faster_exported(path, device)
        if bundled is not None:
            self._model, self.device = Exported(bundled), "cpu"
        elif is_exported(path):
            device = "cpu" if device == "auto" else device
            self._model, self.device = Exported(path, device), device
            if feature not in (None, self._model.feature):
                raise UserError(
                    f"{path} was exported with the feature {self._model.feature!r} and has no {feature!r}: export the "
                    f"checkpoint again with --feature {feature}"
                )
            if settings:
                raise UserError(
                    f"{path} is an exported model, whose settings are fixed, but {', '.join(settings)} was given: give "
                    "the checkpoint instead"
                )
        else:
            self._model = Trained(path, device, feature, **settings)
            self.device = str(self._model.device)
        self.name, self.feature, self.runtime = self._model.name, self._model.feature, self._model.runtime
        self.modalities, self.trained = self._model.modalities, self._model.trained
        if not self.trained:
            warnings.warn(
                f"{path} does not say that it was trained to tell people apart: its vectors may mean nothing",
                stacklevel=2,
            )

    def __reduce__(self):
        """Another process opens the model again, from its file; it may be an exported one, which cannot be sent."""
        return _again, (self._given, self.fingerprint)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Embedder({self.name!r}, feature {self.feature!r}, {height} x {width}, {' and '.join(self.modalities)})"

    @property
    def dimension(self) -> int:
        return self._model.dimension

    @property
    def stripes(self) -> tuple[int, int] | None:
        """(S, C) of the stripes, None where the model has none."""
        return self._model.stripes

    @property
    def metrics(self) -> dict[str, Metric]:
        """How embeddings are compared, by the name of each feature that they serve."""
        return self._model.metrics

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images that the network is given."""
        return self._model.size

    @property
    def interpolation(self) -> str:
        """Pillow's filter that brings images to that size."""
        return self._model.interpolation

    @property
    def fingerprint(self) -> str:
        return self._model.fingerprint

    def __call__(
        self,
        images,
        modality=None,
        boxes=None,
        *,
        order: str = "rgb",
        box_format: str = "xyxy",
        bad: str = "raise",
    ) -> np.ndarray:
        """Embed one image, several, or the people in frames of a video.

        images: whatever ``crossreid.images.decode.decode`` takes (paths, bytes, Pillow images, arrays, torch tensors)
            and ``Image`` records, mixed as they come, in a list, an array (N, H, W, 3) or a generator; one alone gives
            (1, D). A generator is taken in batches and never held whole.
        modality: ``"visible"`` or ``"infrared"`` (or another word for it: rgb, ir, thermal, ...) for all, one for each
            image or frame, or ``"guess"``: by the place of each file in a data set, see ``modality_of``. Needed where
            the model tells them apart, unless all images are records, which know.
        boxes: the people in one frame, in rows of 4 to 8 numbers of which the first 4 are a box in pixels, as
            detectors and trackers write them; or, for several frames, such rows for each. Gives a row for each box.
        order: of the channels of arrays and tensors, ``"bgr"`` for frames of OpenCV.
        box_format: ``"xyxy"``, ``"xywh"`` (left, top, width, height) or ``"cxcywh"`` (centre first).
        bad: what becomes of boxes that are empty, reversed, outside of their frame or no numbers, and of images that
            cannot be read: ``"raise"`` UserError, ``"nan"`` in their rows, ``"random"``, a unit vector of a random
            direction, which is far from everybody's, or ``"skip"``, which leaves the rows out; but for the first, one
            warning names them.
        """
        return self.embed(images, modality, boxes, order=order, box_format=box_format, bad=bad).feature

    def embed(
        self,
        images,
        modality=None,
        boxes=None,
        *,
        order: str = "rgb",
        box_format: str = "xyxy",
        bad: str = "raise",
    ) -> Embedding:
        """The same with the stripes, where the model has them: arrays (N, D) and (N, S, C), or None."""
        check_choice("bad", bad, frames.BAD)
        if isinstance(modality, Iterable) and not isinstance(modality, str):
            modality = list(modality)
        if not frames.is_one(images) and not isinstance(images, Iterable):
            raise UserError(
                f"images were given as {type(images).__name__}: expected one image, or a list of images"
            )
        one = frames.is_one(images)
        if one or (boxes is not None and frames.boxes_of_one(images, boxes)):
            images, boxes = ([images] if one else images), (None if boxes is None else [boxes])
            # The people in one frame may have been given modalities of their own.
            modality = _modalities_of_boxes(modality, boxes)
        modality_at = self._modalities(modality, images)
        parts, lost = [Embedding(*self._room(0))], []
        for some in batches(frames.crops(images, boxes, order, box_format), self.batch):
            good = [(crop, crop.pixels) for crop in some if isinstance(crop.pixels, np.ndarray)]
            lost += [reason for crop in some if (reason := _wrong(crop, one))]
            if lost and bad == "raise":
                raise UserError(lost[0])
            part = Embedding(*self._room(len(good)))
            if good:
                pixels = np.empty((len(good), *self.size, 3), np.uint8)
                for row, (crop, shown) in zip(pixels, good):
                    fitted = fit(shown, self.size, self.interpolation)
                    # Turned after it was resized, which is less to turn and comes to the same.
                    row[:] = fitted[:, :, ::-1] if crop.blue_first else fitted
                part = self._model(pixels, np.array([modality_at(crop) for crop, _ in good]))
            if bad in ("nan", "random") and len(good) < len(some):
                whole = Embedding(*self._room(len(some)))
                kept = np.array([isinstance(crop.pixels, np.ndarray) for crop in some])
                for rows, known in ((whole.feature, part.feature), (whole.stripes, part.stripes)):
                    if rows is not None:
                        rows[kept] = known
                        if bad == "random":
                            drawn = self._random.standard_normal(rows[~kept].shape)
                            rows[~kept] = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
                part = whole
            parts.append(part)
        if lost:
            become = {
                "nan": "have vectors that are not numbers",
                "random": "have random vectors",
                "skip": "are left out",
            }[bad]
            warnings.warn(f"{len(lost)} images {become}: {several(lost)}", stacklevel=2)
        stripes = [part.stripes for part in parts if part.stripes is not None]
        return Embedding(
            np.concatenate([part.feature for part in parts]), np.concatenate(stripes) if stripes else None
        )

    def detections(
        self, frame, detections, modality=None, *, order: str = "rgb", bad: str = "nan"
    ) -> np.ndarray:
        """(N, D) vectors of the N people in a frame that a detector found.

        detections: a ``supervision.Detections``, or anything whose ``xyxy`` holds boxes (N, 4) in pixels. The others as
        for a call; by default a bad box has a row that is not a number, so that rows stay in step with the detections.
        """
        return self(frame, modality, detections.xyxy, order=order, bad=bad)

    def threshold(
        self, false_positive: float = 0.01, modalities: tuple[str, str] = (VISIBLE, VISIBLE)
    ) -> Threshold:
        """The distance (1 - cosine) below which two images count as the same person, so that at most this share of
        pairs of two people is accepted, as the model's own evaluation measured it; the strictest where it has several
        subsets.

        modalities: of the two images. Raises UserError where no such evaluation is known.
        """
        points, source = known(self.path, self.fingerprint, self.feature)
        return strictest(points, false_positive, modalities, source)

    def _room(self, rows: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Vectors, and stripes, that are not numbers yet."""
        features = np.full((rows, self.dimension), np.nan, np.float32)
        return features, None if self.stripes is None else np.full((rows, *self.stripes), np.nan, np.float32)

    def _modalities(self, modality, images) -> Callable[[frames.Crop], int]:
        """0 for visible and 1 for infrared, for each crop."""
        known = isinstance(images, Sequence) and all(
            isinstance(image, Image) and image.modality for image in images
        )
        if modality is None and len(self.modalities) > 1 and not known:
            raise UserError(
                "this model treats visible and infrared images differently: pass modality='visible', "
                "modality='infrared', one of them for each image, or modality='guess' for files that lie as "
                "SYSU-MM01, RegDB or LLCM have them"
            )
        if modality is None and not known:
            modality = self._model.serves[0]
        if modality in (None, "guess"):
            return lambda crop: MODALITIES.index(modality_of(crop.source))
        if isinstance(modality, str):
            every = MODALITIES.index(labels.modality(modality, "all images"))
            return lambda crop: every
        if not isinstance(modality, Iterable | _OfBoxes):
            raise UserError(
                f"modality is {modality!r}: expected 'visible' or 'infrared' for all images, or one for each"
            )
        if isinstance(modality, _OfBoxes):
            own = _indices(modality.given)
            return lambda crop: own[crop.box or 0]
        each = _indices(modality)
        if hasattr(images, "__len__") and len(each) != len(images):
            raise UserError(f"{len(each)} modalities were given for {len(images)} images: give one for each")
        return lambda crop: each[crop.place]


def _again(given: dict, fingerprint: str) -> Embedder:
    """The embedder of another process. Raises UserError where its file holds another model by now."""
    made = Embedder(**given)
    if made.fingerprint != fingerprint:
        raise UserError(
            f"{made.path} is another model than when the embedder was sent or kept: make an Embedder of it anew"
        )
    return made


@dataclasses.dataclass(frozen=True)
class _OfBoxes:
    """Modalities of the boxes of a single frame."""

    given: Sequence[str]


def _modalities_of_boxes(modality, boxes):
    """Modalities as they were given, or, where there is one for each box of a single frame, marked as such."""
    if not isinstance(modality, Sequence) or isinstance(modality, str) or boxes is None or len(modality) == 1:
        return modality
    if len(modality) != len(boxes[0]):
        raise UserError(
            f"{len(modality)} modalities were given for {len(boxes[0])} images: give one for each"
        )
    return _OfBoxes(modality)


def _indices(modality: Iterable[str]) -> list[int]:
    named = [labels.modality(str(each), f"image {number}") for number, each in enumerate(modality, 1)]
    return [MODALITIES.index(each) for each in named]


def _wrong(crop: frames.Crop, one: bool) -> str:
    """What is wrong with a crop, and where it is; empty where nothing is."""
    if isinstance(crop.pixels, np.ndarray):
        return ""
    where = [] if one or crop.box is None else [f"frame {crop.place + 1}"]
    where += [] if crop.box is None else [f"box {crop.box + 1}"]
    return f"{', '.join(where)}: {crop.pixels}" if where else str(crop.pixels)


# Where Linux keeps the accelerators that torch could use.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/davinci_manager", "/dev/accel", "/dev/dri")


def _faster_exported(path: Path, device: str) -> Path | None:
    """The exported form that is bundled with a model, where it is the better one: on a CPU, where it is twice as fast
    and needs no torch, which takes seconds to load."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    none = sys.platform == "linux" and not any(Path(each).exists() for each in _ACCELERATORS)
    return exported_form(path) if device == "cpu" or (device == "auto" and none) else None


class Trained:
    """A checkpoint with the same face as ``Exported``: pixels of the model's size to an ``Embedding`` of arrays."""

    serves = MODALITIES
    precision = "float32"
    runtime = "torch"

    def __init__(self, path: str | Path, device: str = "cpu", feature: str | None = None, **settings):
        try:
            from crossreid import checkpoint
            from crossreid.methods import method_name
        except ModuleNotFoundError as error:
            raise UserError(
                f"{path} is a checkpoint, which needs torch and the other packages of a whole installation ({error}): "
                "install crossreid with its dependencies, or export the checkpoint where they are, with "
                "`crossreid export`"
            ) from error
        self.network = checkpoint.load(path, device, **settings)
        self.path, self.device = Path(path), next(self.network.parameters()).device
        self.method = method_name(self.network)
        self.name, self.feature = f"{self.method} {Path(path).name}", self.network.checked_feature(feature)
        self.modalities, self.trained = tuple(self.network.modalities), self.network.trained
        self.settings, self.metric = self.network.settings, self.network.metric(self.feature)
        self.metrics = self.network.metrics(self.feature)
        self.input = self.network.input
        height, width = self.input["size"]
        self.size, self.interpolation = (height, width), self.input["interpolation"]

    def __call__(self, pixels: np.ndarray, modality: np.ndarray) -> Embedding[np.ndarray]:
        """See ``Exported``."""
        import torch

        with torch.inference_mode():
            images = self.normalise(torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device))
            out = self._faster.embed(images, modality=modality, feature=self.feature)
            vector = torch.nn.functional.normalize(out.feature.float()).cpu().numpy()
            return Embedding(vector, None if out.stripes is None else out.stripes.float().cpu().numpy())

    def normalise(self, pixels):
        """(N, H, W, 3) uint8 to (N, 3, H, W) float32 as the network was trained on them."""
        import torch

        std = torch.tensor(self.input["std"], dtype=torch.float64)
        mean = torch.tensor(self.input["mean"], dtype=torch.float64)
        scale, shift = (
            value.float().view(3, 1, 1).to(pixels.device) for value in (1 / (255 * std), mean / std)
        )
        return pixels.permute(0, 3, 1, 2).float() * scale - shift

    @cached_property
    def _faster(self):
        """The network as this device runs it best."""
        from crossreid.nn.folding import folded

        return folded(self.network, self.size, self.feature)

    @cached_property
    def _blank(self) -> Embedding[np.ndarray]:
        with understood(self.path, "its settings describe no model that can be run; copy the file again"):
            return self(np.zeros((1, *self.size, 3), np.uint8), np.zeros(1, np.int64))

    @property
    def dimension(self) -> int:
        return self._blank.feature.shape[1]

    @property
    def stripes(self) -> tuple[int, int] | None:
        if self._blank.stripes is None:
            return None
        _, count, channels = self._blank.stripes.shape
        return count, channels

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights and all that decides what they make of an image.

        Settings at their defaults are left out, so that a setting that a later version adds changes nothing.
        """
        import torch

        from crossreid.checkpoint import plain

        config = {
            field.name: getattr(self.network.config, field.name)
            for field in dataclasses.fields(self.network.config)
            if field.name != "pretrained" and getattr(self.network.config, field.name) != field.default
        }
        facts = {"method": self.method, "config": config, "feature": self.feature, "input": self.input}
        digest = hashlib.sha256(json.dumps(plain(facts), sort_keys=True).encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()
