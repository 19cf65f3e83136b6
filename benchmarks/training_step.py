"""Time and memory of a training step of each method, beside its published program.

    python benchmarks/training_step.py --originals FOLDER

FOLDER holds clones of the published programs under the names that git gives them (see docs/results/performance.md).
Without it only ours is measured. A step is forward, losses, backward and the optimizers on a batch that is ready; for
MetaBIN a base and a meta step. Both start from the same random weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import forget_peak, peak

# method -> settings file whose method and optimizers are ours
SETTINGS = {
    "agw": "agw_sysu_mm01",
    "ddag": "ddag_sysu_mm01",
    "mvd": "mvd_sysu_mm01",
    "alignedreid": "alignedreid_pytorch_market1501",
    "metabin": "metabin_dg_resnet",
}
CROSS_MODAL = ("agw", "ddag", "mvd")
CLASSES = 100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--originals", type=Path, help="folder with clones of the published programs")
    parser.add_argument("--methods", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--size", nargs=2, type=int, default=(128, 64), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument(
        "--images", type=int, default=16, help="in a batch, of each modality (default: %(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=7, help="of each side, by turns (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(_measure(given, *given.worker)))
        return
    sides = ["ours", "original"] if given.originals else ["ours"]
    print(
        f"{given.images} images of {given.size[0]} x {given.size[1]} (of each modality), {given.threads} thread(s)"
    )
    print("| method | " + " | ".join(f"{side}, s | {side}, MiB" for side in sides), end=" |")
    print(" time ours / original | memory ours / original |" if given.originals else "")
    for method in given.methods:
        times = _fresh(method, sides, given.repeats)
        memory = {side: _fresh(method, [side], 2)[side][1] for side in sides}
        cells = [f"{times[side][0]:.2f} | {memory[side]:.0f}" for side in sides]
        if given.originals:
            cells.append(f"{times['ours'][0] / times['original'][0]:.2f}")
            cells.append(f"{memory['ours'] / memory['original']:.2f}")
        print(f"| {method} | " + " | ".join(cells) + " |", flush=True)


def _fresh(method: str, sides: list[str], repeats: int) -> dict:
    """Side -> (seconds, MiB above the start), found by a process of its own."""
    words = [word for word in sys.argv[1:] if word != "--"]
    command = [sys.executable, __file__, *words, "--repeats", str(repeats), "--worker", method, *sides]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{method} could not be measured:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(given, method: str, *sides: str) -> dict:
    """Medians of processor time over repeats by turns; the memory is that of all sides together."""
    import torch

    torch.set_num_threads(given.threads)
    images = batches(method, given.images, tuple(given.size))
    steps = {}
    state = None
    if "original" in sides:
        import original_steps

        torch.manual_seed(0)
        steps["original"], state = getattr(original_steps, method)(given.originals, images, CLASSES)
    if "ours" in sides:
        torch.manual_seed(0)
        steps["ours"] = ours(method, images, state)
    before = forget_peak()
    for step in steps.values():  # buffers, caches, compiled kernels
        step()
    seconds = {side: [] for side in steps}
    for turn in range(given.repeats):
        for side in sorted(steps, reverse=bool(turn % 2)):
            begun = time.process_time()
            steps[side]()
            seconds[side].append(time.process_time() - begun)
    return {side: (statistics.median(values), peak() - before) for side, values in seconds.items()}


def batches(method: str, count: int, size: tuple[int, int]) -> dict:
    """Phase -> Batch of random images: identities of four images; of five domains for MetaBIN, with two
    identities in each."""
    import torch

    from crossreid.records import Batch

    if method == "metabin":
        each = max(count // 10, 2)
        target = torch.arange(10).repeat_interleave(each)
        domain, modality = target // 2, torch.zeros_like(target)
    else:
        target = torch.arange(-(-count // 4)).repeat_interleave(4)[:count]
        modality = torch.zeros_like(target)
        if method in CROSS_MODAL:
            target, modality = target.repeat(2), torch.arange(2).repeat_interleave(count)
        domain = torch.zeros_like(target)
    phases = ("base", "meta") if method == "metabin" else ("train",)
    generator = torch.Generator().manual_seed(1)
    return {
        phase: Batch(
            torch.randn(len(target), 3, *size, generator=generator),
            target,
            camera=domain * 0,
            modality=modality,
            domain=domain,
        )
        for phase in phases
    }


def ours(method: str, images: dict, state=None):
    """A function that takes one step of our method; ``state``: weights of the published program."""
    import torch

    from crossreid import checkpoint, config, originals
    from crossreid.methods.base import Progress
    from crossreid.training import make_optimizers

    settings = config.load(SETTINGS[method], ["--method.pretrained", "null"])
    model = checkpoint.build(method, settings.method, CLASSES, 5)
    if state is not None:
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / "original.pt")
            _, weights, _ = originals.read(Path(folder) / "original.pt")
        model.load_state_dict(weights, strict=method != "ddag")  # the graph's weight is no weight of theirs
    optimizers = make_optimizers(model, settings.train.optimizers)
    rates = {name: tuple(group["lr"] for group in made.param_groups) for name, made in optimizers.items()}
    progress = Progress(0, 1, 100, rates)
    phases = model.phases(progress)
    model.train()

    def step() -> None:
        for phase in phases:
            for optimizer in optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            losses = model(images[phase.name], phase.name, progress)
            losses["total"].backward()
            for name in phase.optimizers:
                optimizers[name].step()
                for group in optimizers[name].param_groups:
                    for value in group["params"] if group["bounds"] else ():
                        value.data.clamp_(*group["bounds"])

    return step


if __name__ == "__main__":
    main()
