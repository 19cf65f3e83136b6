"""The larger model that comes with the package: train it on rendered people from ImageNet's weights.

    python studies/base_model.py FOLDER --imagenet mobilenet_v2-b0353104.pth     renders, trains, scores
    python studies/base_model.py FOLDER --write                                  puts model and card into the package

The file is torchvision's ``mobilenet_v2`` (IMAGENET1K_V1), under whatever name. What is complete is not done again, and
a training that was stopped goes on. With a GPU: ``--device cuda --workers 8``, whose weights are near those of the CPU
and not the same.
"""

from __future__ import annotations

from pathlib import Path

import bundling
import pairs
import styles
import torch

from crossreid import checkpoint
from crossreid.methods.base import Method

# Most steps on smaller images, which take half the time; the last ones on the size that the model is used with. Where
# the first training ends its rate is nearly nothing: the second one goes on with a high one.
PLANS = {
    "base-first": pairs.Schedule(
        sizes=((3150, (96, 48)), (150, (128, 64))), lr=3.5e-4, horizon=4850, cooldown=700
    ),
    "base": pairs.Schedule(
        sizes=((3600, (96, 48)), (600, (128, 64))), lr=3e-4, horizon=5200, cooldown=1000, seed=1
    ),
}
# Gates where they do not disturb what the network has learned: in the early layers, with its affine pairs.
EARLY = {
    "norm": "bin_early",
    "gate_init": "half",
    "pretrained_norms": ["batch_affine", "batch_statistics", "instance_affine"],
}


def network(imagenet: Path) -> Method:
    """MetaBIN's network with gates behind the narrow layers of the first stages, from ImageNet's weights."""
    settings = EARLY | {"backbone": "mobilenet_v2_1.0", "pretrained": str(imagenet), "meta": False}
    return checkpoint.build("metabin", settings, classes=1)


CARD = Path(__file__).parent / "cards" / "base.md"


def main() -> None:
    parser = bundling.parser(__doc__)
    parser.add_argument("--imagenet", type=Path, help="torchvision's file of mobilenet_v2")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    folder = chosen.folder
    if chosen.write:
        bundling.write("base", [folder / name for name in PLANS], folder / "scores" / "base", CARD)
        return
    if chosen.imagenet is None:
        parser.error("--imagenet is needed for training: the path of torchvision's mobilenet_v2 .pth")
    styles.render(folder, workers=chosen.workers)
    torch.manual_seed(0)
    model = pairs.train_in_turn(network(chosen.imagenet), folder, PLANS, chosen.device)
    styles.score(model, folder, folder / "scores" / "base", device=chosen.device)


if __name__ == "__main__":
    main()
