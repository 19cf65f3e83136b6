"""From settings to batches: the training images, the endless training loaders, and the evaluation loader."""

from __future__ import annotations

import signal
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from crossreid import outside
from crossreid.data import augmentations, prepared
from crossreid.data.sampling import SAMPLERS, Sampler
from crossreid.data.settings import DataConfig, LoaderConfig
from crossreid.images import lance
from crossreid.images.reading import read
from crossreid.records import MODALITIES, Batch, Image, Labels, UserError, coded, identities

# Keeps apart the random numbers of sampler epochs, of augmentations and of stand-ins for broken files.
_EPOCH, _AUGMENT, _REPLACE = range(3)
_NO_BATCHES = "it gives no batch in an epoch: expected its epoch(rng) to yield lists of indices of images"


def training_set(config: DataConfig) -> tuple[list[Image], Labels, list[tuple[int, int]], list[Image] | None]:
    """Read the data sets that ``config`` names.

    Returns the training images; their labels; the (domain, identity) of each class index; and the images
    held out for validation, or None when ``config.validation`` is 0. Several data sets become domains 0, 1,
    ... in the order of ``config.name``. Which identities are held out depends on the identities and the
    share alone.
    """
    training: list[Image] = []
    validation: list[Image] = []
    for domain, name in enumerate(config.names):
        splits = _read_splits(config, name)
        held = splits.get("validation", []) if config.validation else []
        # An official validation split may be part of the training split too.
        apart = {image.identity for image in held}
        found = _prepared(config, name, splits.get("train", []))
        if not found:
            raise UserError(
                f"{name}: no training images were found; check the folder with 'crossreid data check' and the settings "
                f"that select images. To train on a data set that is for testing, on all of it, set "
                f"data.settings.{name}.all_images to true"
            )
        training += [replace(image, domain=domain) for image in found if image.identity not in apart]
        validation += [replace(image, domain=domain) for image in held]
    labels = Labels.of(training)
    if config.cameras_as_domains:
        labels = labels.cameras_as_domains()
    return training, labels, identities(training), validation if config.validation else None


class Loader:
    """An endless stream of training batches that can be stopped and continued anywhere.

    Iterating yields (batch_index, batch): ``batch_index`` counts the batches of the stream from 0, and rank r of R
    takes the batches r, r + R, r + 2R, ... What a batch holds depends on ``seed``, ``name`` and ``batch_index``
    alone, whatever the number of workers or ranks.

    images, labels: N each, as ``training_set`` returns them.
    loader: which sampler, with how many identities and instances.
    config: what is done to the images.
    state: what ``state`` returned, to continue from there, possibly with another number of ranks.
    workers: processes that prepare batches; None takes ``config.workers``.
    device: where batches are wanted. They come there as bytes, are finished there, and nothing waits for it.
    columns: of the images' ``extra``, wanted as ``Batch.extra``.
    """

    def __init__(
        self,
        images: Sequence[Image],
        labels: Labels,
        loader: LoaderConfig,
        config: DataConfig,
        *,
        seed: int,
        name: str = "train",
        rank: int = 0,
        world: int = 1,
        state: dict | None = None,
        workers: int | None = None,
        device="cpu",
        columns: Sequence[str] = (),
    ):
        if len(images) != len(labels):
            raise ValueError(
                f"{len(images)} images but {len(labels)} labels: expected one label for each image"
            )
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}: expected 0 to {world - 1}")
        make = outside.chosen("data.loaders.*.sampler", loader.sampler, SAMPLERS)
        self._make = lambda labels: make(labels, loader.identities, loader.instances)
        self.sampler: Sampler = self._make(labels)
        if outside.named(loader.sampler):
            _check_sampler(loader.sampler, self.sampler, len(images))
        self._length = len(self.sampler)
        self.seed, self.name, self.rank, self.world = seed, name, rank, world
        self.dataset = _Batches(list(images), labels, config, (seed, zlib.crc32(name.encode())), columns)
        self.workers = config.workers if workers is None else workers
        self.device = device
        self._told: set[str] = set()
        self._first = labels.target
        self._stream: Iterator | None = None
        self.go_on(state or {"batch_index": 0, "epoch": 0, "offset": 0})

    def __len__(self) -> int:
        """Batches in a nominal epoch by the labels that the loader began with, over all ranks together."""
        return self._length

    def state(self) -> dict:
        """Where the stream stands after the last batch that was handed out, the same on every rank;
        JSON-able. Batches that workers have prepared ahead do not count."""
        new = {} if self._new_target is None else {"target": self._new_target}
        return self._state | new

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state`` says, such as that of another process."""
        self.close()
        self._state: dict[str, Any] = dict(state)
        self._new_target: list[int] | None = self._state.pop("target", None)
        if self._new_target is not None:
            self._take_labels(self._new_target)
        elif self.dataset.labels.target is not self._first:
            self.dataset.labels = replace(self.dataset.labels, target=self._first)
            self.sampler = self._make(self.dataset.labels)

    def relabel(self, target: Sequence[int]) -> None:
        """Give the images other classes, such as clusters of their features, from the next batch on, which begins an
        epoch of the sampler. They are kept in ``state``. The method's own ``classes`` bounds what it can learn. In
        ``Method.epoch_start`` those of the first process hold for all.

        target: N class indices from 0, one for each image; -1 leaves an image out. Raises UserError for other numbers,
            or too few for a batch.
        """
        found = np.asarray(target)
        if found.shape != (len(self.dataset.images),) or found.dtype.kind not in "iu" or found.min() < -1:
            raise UserError(
                f"new labels of shape {found.shape} and type {found.dtype} were given: expected one whole number from "
                f"0 for each of {len(self.dataset.images)} images, or -1 for one that is left out"
            )
        if found.max() < 0:
            raise UserError(
                "new labels leave out every image (-1): give those that are learned from numbers from 0"
            )
        self._take_labels(found.tolist())
        self._new_target = found.tolist()
        self.close()
        if self._state["offset"]:
            self._state = self._state | {"epoch": self._state["epoch"] + 1, "offset": 0}

    def _take_labels(self, target: list[int]) -> None:
        labels = replace(self.dataset.labels, target=np.array(target, np.int64))
        kept = np.flatnonzero(labels.target >= 0)
        self.sampler = _Among(self._make(labels.take(kept)), kept)
        self.dataset.labels = labels

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> tuple[int, Batch]:
        from crossreid.data.on_device import finish

        if self._stream is None:
            self._stream = self._start()
        outcome = next(self._stream)
        if isinstance(outcome, UserError):
            raise outcome
        batch_index, state, batch, drawn, labels, broken = outcome
        for text in broken:
            if text not in self._told:
                self._told.add(text)
                warnings.warn(f"{text} (another image of the same identity stands in for it)", stacklevel=2)
        self._state = state
        batch = batch.to(self.device, non_blocking=True)
        images = finish(batch.images, drawn, self.dataset.config)
        return batch_index, replace(batch, images=images, labels=labels)

    def close(self) -> None:
        """End the workers. The stream continues where it stood when the next batch is asked for."""
        self._stream = None

    def _start(self) -> Iterator:
        keys = _Keys(self.sampler, self.dataset.stream, self._state, self.rank, self.world)
        return iter(_data_loader(self.dataset, keys, self.workers, self.device))


def _check_sampler(name: str, sampler: Any, images: int) -> None:
    """Raise UserError where the sampler of a user does not give batches; the first of an epoch is looked at."""
    lacking = [
        method for method in ("__len__", "epoch") if not callable(getattr(type(sampler), method, None))
    ]
    if lacking or len(sampler) < 1:
        found = f"has no {' nor '.join(lacking)}" if lacking else "has the length 0"
        raise UserError(
            f"the sampler {name} {found}: expected a class with __len__, the number of batches in an epoch, and "
            "epoch(rng), which yields lists of indices of images"
        )
    for rows in islice(sampler.epoch(np.random.default_rng(0)), 1):
        batch = np.asarray(rows)
        if (
            batch.ndim == 1
            and batch.dtype.kind in "iu"
            and 0 <= batch.min(initial=0) <= batch.max(initial=-1) < images
        ):
            return
        raise UserError(
            f"the sampler {name} yields a batch that is not a list of indices of the {images} training images, from 0 "
            f"to {images - 1}: {str(rows)[:200]}"
        )
    raise UserError(f"the sampler {name}: {_NO_BATCHES}")


def test_loader(
    images: Sequence[Image],
    config: DataConfig,
    batch_size: int = 128,
    workers: int | None = None,
    device="cpu",
):
    """Every image once, in order, without augmentation.

    Yields (indices (B,) int64, images (B, 3, H, W) float32 normalised on ``device``, modality (B,) int64); the last
    batch may be smaller. Raises UserError naming the file that cannot be read.
    """
    from crossreid.data.on_device import normalise

    rows = [range(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    count = min(config.workers if workers is None else workers, len(rows))
    for outcome in _data_loader(_TestBatches(list(images), config), rows, count, device):
        if isinstance(outcome, UserError):
            raise outcome
        rows, pixels, modality = outcome
        yield rows, normalise(pixels.to(device, non_blocking=True), config), modality


def _data_loader(dataset, keys, workers: int, device):
    """torch's loader of whole batches, whose memory is pinned where they go to an accelerator."""
    import torch
    from torch.utils.data import DataLoader

    if any(image.path.suffix.lower() == lance.SUFFIX for image in dataset.images):
        workers = 0  # the threads of LanceDB do not come along into a process that is forked
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_leave_stopping_to_the_parent,
        pin_memory=torch.device(device).type != "cpu" and torch.accelerator.is_available(),
        # Its own generator, because starting workers would otherwise draw from torch's global one.
        generator=torch.Generator(),
    )


def _leave_stopping_to_the_parent(worker: int) -> None:
    """Ctrl-C and a termination signal often reach the whole group of processes. The one that trains still needs
    batches until it has saved, and ends its workers itself; a second termination signal ends this one."""

    def first(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, first)


class _Among:
    """A sampler that was made for some of the images, as one of all of them. rows: which they are."""

    def __init__(self, sampler: Sampler, rows: np.ndarray):
        self.sampler, self.rows = sampler, rows

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, rng: np.random.Generator) -> Iterator[list[int]]:
        for batch in self.sampler.epoch(rng):
            yield self.rows[batch].tolist()


class _Batches:
    """What a worker holds: turns a key of ``_Keys`` into a batch of bytes and what was drawn for it."""

    def __init__(
        self,
        images: list[Image],
        labels: Labels,
        config: DataConfig,
        stream: tuple[int, int],
        columns: Sequence[str] = (),
    ):
        self.images, self.labels, self.config, self.stream = images, labels, config, stream
        self.extra = coded(images, columns)
        # Made here: a worker has not imported what the user named.
        self.changes = augmentations.chosen(config.augment)

    def __getitem__(self, key):
        import torch

        from crossreid.data.transforms import in_worker

        batch_index, state, rows = key
        broken: list[str] = []
        generators = [_generator(self.stream, _AUGMENT, batch_index, place) for place in range(len(rows))]
        try:
            arrays, rows = zip(
                *(self._read(row, batch_index, place, broken) for place, row in enumerate(rows))
            )
        except UserError as error:
            # Returned, not raised: a worker would wrap its text in a traceback.
            return error
        rows = np.asarray(rows)
        labels = self.labels.take(rows)
        pixels, drawn = in_worker(arrays, labels.modality, generators, self.config, self.changes)
        target, camera, modality, domain = (
            torch.from_numpy(each) for each in (labels.target, labels.camera, labels.modality, labels.domain)
        )
        extra = {name: torch.from_numpy(codes[rows]) for name, codes in self.extra.items()}
        batch = Batch(pixels, target, camera, modality, domain, extra=extra)
        return batch_index, state, batch, drawn, labels, broken

    def _read(self, row: int, batch_index: int, place: int, broken: list[str]) -> tuple[np.ndarray, int]:
        """The pixels, and the row that they are of: another of that identity and modality for a broken image, of
        its own domain if there is one."""
        try:
            return read(self.images[row]), row
        except UserError as error:
            if self.config.broken == "stop":
                raise UserError(f"{error}. Training goes on without it with data.broken: skip") from error
            broken.append(str(error))
        alike = np.flatnonzero(
            (self.labels.target == self.labels.target[row])
            & (self.labels.modality == self.labels.modality[row])
        )
        others = _generator(self.stream, _REPLACE, batch_index, place).permutation(alike[alike != row])
        elsewhere = self.labels.domain[others] != self.labels.domain[row]
        for other in others[np.argsort(elsewhere, kind="stable")]:
            try:
                return read(self.images[other]), other
            except UserError as error:
                broken.append(str(error))
        raise UserError(
            f"{self.images[row].path}: cannot be read, and neither can any other {self.images[row].modality} "
            f"image of identity {self.images[row].identity}; restore the files or remove this identity"
        )


class _TestBatches:
    def __init__(self, images: list[Image], config: DataConfig):
        self.images, self.config = images, config

    def __getitem__(self, rows: range):
        import torch

        from crossreid.data.transforms import resized

        chosen = [self.images[row] for row in rows]
        try:
            arrays = [read(image) for image in chosen]
        except UserError as error:
            return error
        modality = torch.tensor([MODALITIES.index(image.modality) for image in chosen])
        return torch.tensor(rows), resized(arrays, self.config), modality


class _Keys:
    """The endless sequence of (batch_index, state afterwards, rows) of one rank.

    Every rank walks through the whole stream and keeps its share; the state is that of the whole round of
    ranks.
    """

    def __init__(self, sampler, stream: tuple[int, int], state: dict, rank: int, world: int):
        self.sampler, self.stream, self.state = sampler, stream, state
        self.rank, self.world = rank, world

    def __iter__(self):
        batch_index = self.state["batch_index"]
        number, mine = batch_index, None
        for turn, (epoch, offset, rows) in enumerate(self._batches()):
            if turn % self.world == self.rank:
                number, mine = batch_index + turn, rows
            if turn % self.world == self.world - 1:
                yield (
                    number,
                    {"batch_index": batch_index + turn + 1, "epoch": epoch, "offset": offset + 1},
                    mine,
                )

    def _batches(self):
        epoch, skip = self.state["epoch"], self.state["offset"]
        while True:
            offset = -1
            for offset, rows in enumerate(self.sampler.epoch(_generator(self.stream, _EPOCH, epoch, 0))):
                if offset >= skip:
                    yield epoch, offset, rows
            if offset < 0:
                raise UserError(f"a sampler: {_NO_BATCHES}")
            epoch, skip = epoch + 1, 0


def _generator(stream: tuple[int, int], purpose: int, first: int, second: int) -> np.random.Generator:
    """Random numbers of their own for each (stream, purpose, first, second).

    A counter-based generator is made in a few microseconds, and streams whose upper counter words differ
    cannot meet.
    """
    return np.random.Generator(np.random.Philox(key=stream, counter=(0, purpose, first, second)))


def _unchanged(value):
    return value


def _read_splits(config: DataConfig, name: str) -> dict[str, list[Image]]:
    """The splits of one data set, a share of its training identities held out if the settings say so."""
    from crossreid import data

    own = {key: value for key, value in config.settings.items() if key not in config.names}
    own.update(config.settings.get(name) or {})
    source = data.get(name)
    if config.prepared and source.takes("prepared"):
        own["prepared"] = True
    if config.fold is not None:
        if not any(data.get(each).takes("fold") for each in config.names):
            raise UserError(
                f"data.fold is {config.fold!r}, but {', '.join(config.names)} has one training split only: "
                f"remove data.fold"
            )
        if source.takes("fold"):
            own["fold"] = config.fold
    return data.read(name, data.locate(name, config.roots), held_out=config.validation, **own)


def _prepared(config: DataConfig, name: str, images: list[Image]) -> list[Image]:
    """The same images as rows of the prepared array, where the settings ask for it."""
    from crossreid import data

    if not config.prepared or data.get(name).takes("prepared"):
        return images
    return prepared.rows(images, data.locate(name, config.roots), config.size, config.interpolation)
