"""Train and evaluate without crossreid's loop: the parts are ordinary Python, for loops of your own.

python examples/plain_loop.py FOLDER_OF_MARKET_1501 [steps]
"""

import sys

import torch

import crossreid
from crossreid.data.loading import Loader, test_loader, training_set
from crossreid.data.settings import DataConfig, LoaderConfig
from crossreid.methods.agw import AGW, AGWConfig
from crossreid.methods.base import Progress
from crossreid.ops import ranking


def main(root: str, steps: int = 300) -> float:
    torch.manual_seed(0)
    streams = {"train": LoaderConfig(sampler="identity", identities=4, instances=4)}
    roots = {"market1501": root}
    data = DataConfig("market1501", roots, size=(96, 48), padding=4, loaders=streams, workers=0)
    images, labels, _, _ = training_set(data)
    loader = Loader(images, labels, streams["train"], data, seed=0)

    model = AGW(AGWConfig(backbone="tiny", pretrained=None, streams=1), classes=labels.classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=5e-4)
    model.train()
    for step, (_, batch) in zip(range(steps), loader):
        losses = model(batch, "train", Progress(iteration=step))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        if step % 50 == 0:
            print(
                f"step {step}: " + ", ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            )

    model.eval()
    protocol = crossreid.protocols.get("market1501")(root)
    with torch.inference_mode():
        vectors = torch.cat(
            [model.embed(pixels).feature for _, pixels, _ in test_loader(protocol.images, data, 64)]
        )
    (trial,) = protocol.trials()
    people = [image.identity for image in protocol.images]
    scores = ranking.evaluate(
        vectors[trial.query],
        vectors[trial.gallery],
        [people[i] for i in trial.query],
        [people[i] for i in trial.gallery],
        excluded=trial.excluded,
    )
    print(protocol.description)
    print(f"Rank-1 {scores.cmc[0]:.1%}, mAP {scores.mean_ap:.1%}, mINP {scores.mean_inp:.1%}")
    return scores.mean_ap


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
