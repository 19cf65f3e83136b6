"""The settings of data: what is read, how it is augmented, and how batches are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from crossreid import outside
from crossreid.data import augmentations
from crossreid.data.sampling import SAMPLERS
from crossreid.images.resize import FILTERS
from crossreid.records import UserError, check_choice

INTERPOLATIONS = tuple(FILTERS)
RATIOS = ("height_over_width", "width_over_height", "logarithmic")


@dataclass
class LoaderConfig:
    """One named stream of batches.

    Args:
        sampler: How batches are put together: identity, identity_chunks, identity_whole_chunks, images, cross_modal,
            cross_modal_once or domain_balanced.
        identities: Identities in a batch (P).
        instances: Images of each identity in a batch (K); of each identity and modality for cross_modal, of
            both modalities together for cross_modal_once. For images, P x K is the batch.
    """

    sampler: str = "identity"
    identities: int = 8
    instances: int = 4

    def __post_init__(self):
        outside.chosen("data.loaders.*.sampler", self.sampler, SAMPLERS)
        _at_least("identities", self.identities, 1)
        _at_least("instances", self.instances, 1)


@dataclass
class JitterConfig:
    """Random changes of colour. The defaults are MetaBIN's.

    Args:
        probability: Share of images that are changed.
        brightness: Factor drawn from 1 - brightness to 1 + brightness.
        contrast: Factor drawn likewise.
        saturation: Factor drawn likewise.
        hue: Shift drawn from -hue to hue, in turns of the colour circle, at most 0.5.
    """

    probability: float = 1.0
    brightness: float = 0.15
    contrast: float = 0.15
    saturation: float = 0.1
    hue: float = 0.1

    def __post_init__(self):
        _share("probability", self.probability)
        for name in ("brightness", "contrast", "saturation"):
            _at_least(name, getattr(self, name), 0)
        _within("hue", self.hue, 0, 0.5)


@dataclass
class EraseConfig:
    """Random erasing (Zhong et al. 2020), after normalisation.

    Args:
        probability: Share of images with an erased rectangle.
        area: Smallest and largest area of the rectangle, as a share of the image.
        aspect: Smallest and largest value of its ratio of sides.
        ratio: Which that is, drawn evenly between the two: height_over_width (Zhong et al.), width_over_height
            (MindSpore), or logarithmic, the logarithm of the first (torchvision, timm).
        fill: Value of each channel inside the rectangle, in units of the normalised image (0 is the mean
            colour).
        attempts: How often a rectangle is drawn before an image is left whole because none fits.
    """

    probability: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    aspect: tuple[float, float] = (0.3, 3.33)
    ratio: str = "height_over_width"
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
    attempts: int = 100

    def __post_init__(self):
        # A list of a settings file as the tuple that it stands for; how many there are is looked at below.
        for name in ("area", "aspect", "fill"):
            setattr(self, name, tuple(getattr(self, name)))
        _share("probability", self.probability)
        _at_least("attempts", self.attempts, 1)
        if not (len(self.area) == 2 and 0 < self.area[0] <= self.area[1] <= 1):
            raise UserError(
                f"area is {self.area}: expected two shares of the image, smaller first, such as (0.02, 0.4)"
            )
        if not (len(self.aspect) == 2 and 0 < self.aspect[0] <= self.aspect[1]):
            raise UserError(
                f"aspect is {self.aspect}: expected two ratios, smaller first, such as (0.3, 3.33)"
            )
        check_choice("data.erase.ratio", self.ratio, RATIOS)
        if len(self.fill) != 3:
            raise UserError(f"fill is {self.fill}: expected three numbers, one for each colour channel")


@dataclass
class DataConfig:
    """The training images and what is done to them. The defaults are AlignedReID++'s without its translation.

    Args:
        name: Data set to train on, or a list of data sets, each a domain.
        roots: Folder of each data set by its name; without an entry, its usual folder below the folder that
            the environment variable CROSSREID_DATA names.
        fold: Which of the data set's official splits, where it has several.
        settings: Further settings of the data set's reader. With several data sets an entry under the name
            of one holds that one's, and the others go to all. all_images trains on every split of any data
            set.
        size: Height and width of the network's input, in pixels.
        interpolation: Filter that resizes images: bilinear, bicubic or lanczos.
        mean: Mean of each channel that is subtracted, for pixels from 0 to 1.
        std: Standard deviation that each channel is divided by, for pixels from 0 to 1.
        flip: Probability that a training image is mirrored.
        padding: Black pixels put around a training image before it is cropped back at random; 0 for none.
        translate: Probability that a training image is enlarged by an eighth and cropped at random
            (AlignedReID++).
        grey: Probability that a training image loses its colour.
        grey_modality: Which images may lose it: all, or visible.
        augment: Further augmentations by name: auto_augment, augmix, random_patch, channel_exchange; a transform of
            torchvision.transforms.v2 such as RandAugment; one of your own by package.module:Name; or mappings
            such as {name: random_patch, probability: 0.5}.
        jitter: Random changes of colour, or null.
        erase: Random erasing, or null.
        cameras_as_domains: Whether each camera counts as a domain, for methods that need several.
        loaders: The streams of batches that the method's phases draw from, by name.
        workers: Processes that prepare batches; 0 prepares them in the training process.
        broken: What an image that cannot be read does to training: stop, or skip (another image of the
            same identity and modality stands in).
        prepared: Whether to train from the array that 'crossreid data prepare' made for this size and
            interpolation, instead of decoding the images again in every epoch.
        validation: Share of the training identities that is held out for validation. A data set with an
            official validation split holds out that split instead as soon as this is above 0.
    """

    name: str | list[str] = "market1501"
    roots: dict[str, str] = field(default_factory=dict)
    fold: int | str | None = None
    settings: dict = field(default_factory=dict)
    size: tuple[int, int] = (256, 128)
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    flip: float = 0.5
    padding: int = 0
    translate: float = 0.0
    grey: float = 0.0
    grey_modality: str = "all"
    augment: tuple[str | dict, ...] = ()
    jitter: JitterConfig | None = None
    erase: EraseConfig | None = None
    cameras_as_domains: bool = False
    loaders: dict[str, LoaderConfig] = field(default_factory=lambda: {"train": LoaderConfig()})
    workers: int = 2
    broken: str = "stop"
    prepared: bool = False
    validation: float = 0.0

    def __post_init__(self):
        for name in ("size", "mean", "std"):
            setattr(self, name, tuple(getattr(self, name)))
        augmentations.chosen(self.augment)
        if len(self.size) != 2 or min(self.size) < 1:
            raise UserError(f"size is {self.size}: expected height and width in pixels, such as (256, 128)")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError(
                f"mean is {self.mean} and std is {self.std}: expected three numbers each, for pixels from 0 "
                f"to 1, and std above 0"
            )
        check_choice("data.interpolation", self.interpolation, INTERPOLATIONS)
        check_choice("data.grey_modality", self.grey_modality, ("all", "visible"))
        check_choice("data.broken", self.broken, ("stop", "skip"))
        for name in ("flip", "translate", "grey"):
            _share(name, getattr(self, name))
        if not 0 <= self.validation < 1:
            raise UserError(
                f"validation is {self.validation}: expected a share from 0 up to, but not including, 1"
            )
        _at_least("padding", self.padding, 0)
        if self.padding > min(self.size):
            raise UserError(
                f"padding is {self.padding}: expected at most the smaller side of the image, {min(self.size)}"
            )
        _at_least("workers", self.workers, 0)
        if not self.names or len(set(self.names)) < len(self.names):
            raise UserError(f"name is {self.name!r}: expected one data set, or a list of different data sets")
        if "train" not in self.loaders:
            raise UserError(
                f"loaders has {sorted(self.loaders)}: expected one named 'train', whose length is an epoch's"
            )

    @property
    def names(self) -> list[str]:
        return [self.name] if isinstance(self.name, str) else list(self.name)


def _share(name: str, value: float) -> None:
    _within(name, value, 0, 1)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{name} is {value}: expected a number from {low} to {high}")


def _at_least(name: str, value: float, low: float) -> None:
    if not value >= low:
        raise UserError(f"{name} is {value}: expected {low} or more")
