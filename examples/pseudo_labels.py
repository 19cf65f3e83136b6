"""Learn persons without labels: the classes are clusters of the method's own features, made anew before each epoch.

python examples/pseudo_labels.py FOLDER_OF_MARKET_1501 RUN_FOLDER [epochs]

The true labels serve for two things alone: their number is that of the clusters, and the test set is scored by them.
"""

import sys
from pathlib import Path

import torch
from sklearn.cluster import KMeans

from crossreid import config, training
from crossreid.data.loading import test_loader
from crossreid.methods.baseline import Baseline


class Clustered(Baseline):
    """The baseline with pseudo labels."""

    def epoch_start(self, loaders):
        data, device = loaders["train"].dataset, self.classifier.weight.device
        self.eval()
        with torch.inference_mode():
            batches = test_loader(data.images, data.config, device=device)
            features = torch.cat([self.embed(pixels).feature for _, pixels, _ in batches])
        found = KMeans(self.classes, n_init=4, random_state=0).fit(features.cpu().numpy())
        loaders["train"].relabel(found.labels_)
        with torch.no_grad():  # what the classifier knew of the last clusters means nothing to these
            self.classifier.weight.copy_(torch.from_numpy(found.cluster_centers_))


def settings(root: str, epochs: int) -> config.Settings:
    return config.load(
        {
            "method": {"name": Clustered, "backbone": "tiny", "pretrained": None},
            "data": {
                "name": "market1501",
                "roots": {"market1501": root},
                "size": [96, 48],
                "padding": 4,
                "loaders": {"train": {"sampler": "identity_chunks", "identities": 4, "instances": 4}},
                "workers": 0,
            },
            "train": {
                "epochs": epochs,
                "evaluate_every": 1,
                "optimizers": {"main": {"name": "adam", "lr": 5e-4}},
            },
        }
    )


def main(root: str, run: str, epochs: int = 12) -> Path:
    return training.train(settings(root, epochs), Path(run))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
