"""Pictures in, unit vectors out: the way a trained model is used."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture

from crossreid import checkpoint
from crossreid.data.loading import DataConfig, read_image
from crossreid.data.transforms import test_transform
from crossreid.methods.base import modality_indices
from crossreid.records import VISIBLE, Image, UserError


class Embedder:
    """A trained model as a function from pictures to vectors.

    checkpoint: our own file, or one of a published system.
    device: where the network runs. batch: pictures embedded at once.
    feature: one of the method's features; None is its default.
    settings: passed on to ``crossreid.load``.

    ``Embedder(path)(pictures)`` returns (N, D) float32 vectors of unit length. The network is always in evaluation
    mode, so a picture has the same vector alone and among others, up to the rounding of the matrix product.
    """

    def __init__(
        self, path: str | Path, device: str = "cpu", batch: int = 64, feature: str | None = None, **settings
    ):
        self.method = checkpoint.load(path, device, **settings)
        self.device, self.batch, self.feature = device, batch, feature
        if feature is not None and feature not in self.method.features:
            raise UserError(
                f"the model has no feature {feature!r}: choose one of {', '.join(self.method.features)}"
            )
        known = {key: self.method.input[key] for key in ("size", "interpolation", "mean", "std")}
        self._transform = test_transform(DataConfig(**known))
        if not self.method.trained:
            warnings.warn(
                f"{path} does not say that it was trained to tell people apart: its vectors may mean nothing",
                stacklevel=2,
            )

    def __call__(
        self, pictures, modality=None, boxes: Sequence[tuple[int, int, int, int]] | None = None
    ) -> np.ndarray:
        """Embed one picture or a sequence of them.

        pictures: paths, Pillow pictures, or (H, W, 3) uint8 RGB arrays, mixed as they come; one alone gives (1, D).
        modality: ``"visible"`` or ``"infrared"`` for all, or one for each picture; needed where the method tells
            them apart.
        boxes: (left, top, right, bottom) in pixels: the people in *one* picture, a frame; gives a row for each.
        """
        if isinstance(pictures, (str, Path, Picture.Image)) or (
            isinstance(pictures, np.ndarray) and pictures.ndim == 3
        ):
            pictures = [pictures]
        arrays = [_pixels(picture) for picture in pictures]
        if boxes is not None:
            if len(arrays) != 1:
                raise UserError(f"boxes are those of one frame, but {len(arrays)} pictures were given")
            arrays = [_cut(arrays[0], box) for box in boxes]
        if modality is None and len(self.method.modalities) > 1:
            raise UserError(
                "this model treats visible and infrared pictures differently: pass modality='visible', "
                "modality='infrared', or one of them for each picture"
            )
        modality = modality_indices(modality or VISIBLE, len(arrays), "cpu")
        vectors = [np.zeros((0, 0), np.float32)] if not arrays else []
        with torch.inference_mode():
            for start in range(0, len(arrays), self.batch):
                rows = slice(start, start + self.batch)
                images = self._transform(arrays[rows]).to(self.device)
                out = self.method.embed(images, modality=modality[rows].to(self.device), feature=self.feature)
                vectors.append(torch.nn.functional.normalize(out.vector.float()).cpu().numpy())
        return np.concatenate(vectors)


def _pixels(picture) -> np.ndarray:
    if isinstance(picture, (str, Path)):
        return read_image(Image(Path(picture), identity=0, camera=0))
    if isinstance(picture, Picture.Image):
        return np.array(picture.convert("RGB"))
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UserError(
            f"a picture given as an array has shape {array.shape} and type {array.dtype}: expected (height, width, 3) "
            "uint8, red first"
        )
    return array


def _cut(frame: np.ndarray, box) -> np.ndarray:
    left, top, right, bottom = (round(edge) for edge in box)
    pixels = frame[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if pixels.size == 0:
        raise UserError(
            f"the box {tuple(box)} lies outside of the frame ({frame.shape[1]} x {frame.shape[0]}), or is empty: "
            "expected (left, top, right, bottom)"
        )
    return pixels
