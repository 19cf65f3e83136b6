"""What training and evaluation do on an accelerator, in one run of at most twelve minutes.

    python benchmarks/accelerator.py OUT [--originals FOLDER]

Most telling first: whether each method computes there what it computes on the processor, exact resume, torchrun, images
a second at the published sizes, waiting for input, evaluation at Market-1501's size. Each part is written to
``OUT/accelerator.md`` as it ends, an error as its text, and what time is left decides how many rows the others have.
``--tiny`` takes small networks and sizes: that everything runs can be seen on any processor.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from training_step import CLASSES, SETTINGS, batches

from crossreid import checkpoint, config, synthetic, training
from crossreid.data.loading import Loader, training_set
from crossreid.engine import PRECISIONS, Engine, choose_device, tune
from crossreid.methods.base import Progress
from crossreid.ops import alignment, ranking, rerank
from crossreid.training import make_optimizers

# Largest difference to the processor, relative to the largest value: of losses, gradients, weights after three steps.
BOUNDS = {"losses": 1e-4, "gradients": 1e-2, "weights": 1e-3}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--originals", type=Path, help="folder with clones of the published programs")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    given.device = choose_device(given.device)
    given.end = time.monotonic() + 60 * given.minutes
    given.out.mkdir(parents=True, exist_ok=True)
    page = given.out / "accelerator.md"
    page.write_text(f"# On an accelerator\n\n{_machine(given.device)}\n", encoding="utf-8")
    for part in (equality, resume, launcher, throughput, waiting, evaluation):
        begun = time.monotonic()
        with open(page, "a", encoding="utf-8") as file:
            file.write(f"\n## {part.__doc__.splitlines()[0]}\n\n")
            try:
                for line in part(given):
                    file.write(line + "\n")
                    file.flush()
                    print(line, flush=True)
            except Exception as error:
                traceback.print_exc()
                file.write(f"\nstopped: {type(error).__name__}: {' '.join(str(error).split())}\n")
            file.write(f"\n{time.monotonic() - begun:.0f} s\n")


def equality(given) -> Iterator[str]:
    """The same numbers as on the processor"""
    yield "Largest difference to float32 on the processor, relative to the largest value; three optimizer steps."
    yield f"Bounds in float32: {', '.join(f'{name} {bound:g}' for name, bound in BOUNDS.items())}."
    yield "\n| method | precision | losses | gradients | weights | within |\n|---|---|---|---|---|---|"
    for method in SETTINGS:
        wanted = _three_steps(given, method, torch.device("cpu"), "float32")
        for precision in PRECISIONS:
            found = _three_steps(given, method, given.device, precision)
            away = {name: _away(found[name], wanted[name]) for name in BOUNDS}
            within = all(away[name] <= bound for name, bound in BOUNDS.items())
            cells = [f"{away[name]:.1e}" for name in BOUNDS]
            verdict = ("yes" if within else "NO") if precision == "float32" else ""
            yield f"| {method} | {precision} | {' | '.join(cells)} | {verdict} |"


def resume(given) -> Iterator[str]:
    """Exact resume"""
    tree = _experiment(given)
    whole, stopped = given.out / "whole", given.out / "stopped"
    settings = config.load(tree)
    training.train(settings, whole, evaluate=False)
    fit = training.fit
    try:
        training.fit = lambda *each, **named: fit(*each, **named, stop_after=5)
        training.train(settings, stopped, evaluate=False)
    except training.Interrupted:
        pass
    finally:
        training.fit = fit
    training.train(settings, stopped, resume=True, evaluate=False)
    one, other = (checkpoint.read(run / "last.pt")["weights"] for run in (whole, stopped))
    away = max((one[key].double() - other[key].double()).abs().max().item() for key in one)
    yield f"Weights of a run stopped inside its second epoch and resumed: {away:g} at most from those of a whole one."


def launcher(given) -> Iterator[str]:
    """One process by torchrun"""
    file = given.out / "experiment.json"  # JSON is YAML
    file.write_text(json.dumps(_experiment(given)), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    command += ["-m", "--", "crossreid", "train", str(file), "--run", str(given.out / "torchrun")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    yield f"`torchrun --nproc-per-node 1` ends with {done.returncode}."
    if done.returncode:
        yield f"\n```text\n{done.stderr[-1500:]}\n```"


def throughput(given) -> Iterator[str]:
    """Images a second"""
    ways = [
        ("float32", {}),
        ("TF32", {"tf32": True}),
        ("bfloat16", {"precision": "bfloat16"}),
        ("bfloat16, channels last", {"precision": "bfloat16", "channels_last": True}),
        (
            "bfloat16, channels last, compiled",
            {"precision": "bfloat16", "channels_last": True, "compiled": True},
        ),
    ]
    yield "A step with its optimizers at the published size, on a batch that is there; peak memory of the device.\n"
    yield "| method | size | images | way | images/s | ms | MiB | official ms |\n|---|---|---|---|---|---|---|---|"
    for name, how in ways:
        for method in SETTINGS:
            if time.monotonic() > given.end - 120:
                yield f"\n(no time was left for {name} of {method} and what would have followed)"
                return
            if given.tiny and "compiled" in how and method != "agw":
                continue  # on a processor compiling takes minutes
            size, count = _published(given, method)
            _forget_peak(given.device)
            seconds = _seconds(given, _stepper(given, method, given.device, **how))
            images = sum(len(batch) for batch in _batches(given, method).values())
            official = ""
            if given.originals and name == "float32":
                official = f"{1000 * _official(given, method):.1f}"
            cells = [method, f"{size[0]} x {size[1]}", count, name, f"{images / seconds:.0f}"]
            cells += [f"{1000 * seconds:.1f}", _peak(given.device), official]
            yield f"| {' | '.join(map(str, cells))} |"


def waiting(given) -> Iterator[str]:
    """Waiting for input"""
    settings = config.load(_experiment(given))
    images, labels, _, _ = training_set(settings.data)
    yield "| workers | share of the time that the loop waits for its loader |\n|---|---|"
    step = _stepper(given, "agw", given.device, precision="bfloat16")
    for workers in (0, 1, 4):
        loader = Loader(
            images,
            labels,
            settings.data.loaders["train"],
            settings.data,
            seed=0,
            workers=workers,
            device=given.device,
        )
        next(loader)
        _wait(given.device)
        begun, waited = time.monotonic(), 0.0
        for _ in range(5 if given.tiny else 50):
            asked = time.monotonic()
            next(loader)
            waited += time.monotonic() - asked
            step()
        _wait(given.device)
        loader.close()
        yield f"| {workers} | {waited / (time.monotonic() - begun):.0%} |"


def evaluation(given) -> Iterator[str]:
    """Evaluation at Market-1501's size"""
    queries, gallery, width = (20, 100, 16) if given.tiny else (3368, 19732, 2048)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(count, width, generator=generator).to(given.device) for count in (queries, gallery))
    ids = np.arange(queries) % 750, np.arange(gallery) % 750
    stripes = [
        torch.nn.functional.normalize(torch.randn(count, 8, 128, generator=generator), dim=2).to(given.device)
        for count in (queries, min(gallery, 4000))
    ]
    yield "| what | s |\n|---|---|"
    for name, work in (
        ("ranking from features", lambda: ranking.evaluate(x, y, *ids, excluded=None)),
        ("alignment of 8 stripes of 128", lambda: alignment.aligned(*stripes)),
        ("re-ranking", lambda: rerank.k_reciprocal_rows(x, y)(0, min(64, queries))),
    ):
        if time.monotonic() > given.end - 30:
            yield f"| {name} | no time was left |"
            continue
        yield f"| {name} | {_timed(given.device, work):.2f} |"


# What the parts are made of


def _machine(device: torch.device) -> str:
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return f"{device} ({name}), torch {torch.__version__}, Python {platform.python_version()}."


def _published(given, method: str) -> tuple[tuple[int, int], int]:
    """Input size, and images of a batch (of each modality), of the settings file."""
    settings = config.load(SETTINGS[method])
    if given.tiny:
        return (32, 16), 40 if method == "metabin" else 8
    loader = settings.data.loaders["train"]
    count = loader.identities * loader.instances
    half = loader.sampler == "cross_modal_once"
    return settings.data.size, count // 2 if half else count


def _batches(given, method: str) -> dict:
    size, count = _published(given, method)
    return batches(method, count, size)


def _stepper(
    given,
    method: str,
    device: torch.device,
    precision: str = "float32",
    *,
    tf32: bool = False,
    channels_last: bool = False,
    compiled: bool = False,
    kept: dict | None = None,
) -> Callable[[], None]:
    """A function that takes one step. kept: gets the model, and the losses and gradients of the last step."""
    small = ["--method.backbone", "tiny"] if given.tiny else []
    settings = config.load(SETTINGS[method], ["--method.pretrained", "null", *small])
    torch.manual_seed(0)
    model = checkpoint.build(method, settings.method, CLASSES, 5).to(device).train()
    images = {
        name: replace(batch.to(device), labels=batch.on_host())
        for name, batch in _batches(given, method).items()
    }
    if channels_last:
        model.to(memory_format=torch.channels_last)
        images = {
            name: replace(batch, images=batch.images.contiguous(memory_format=torch.channels_last))
            for name, batch in images.items()
        }
    if compiled:
        for network in model.networks():
            network.compile()
    optimizers = make_optimizers(model, settings.train.optimizers)
    lrs = {name: tuple(group["lr"] for group in made.param_groups) for name, made in optimizers.items()}
    engine = Engine(str(device), precision)
    if kept is not None:
        kept["model"] = model

    def step() -> None:
        tune(tf32)
        progress = Progress(0, 1, 100, lrs, engine.loss_scale)
        for phase in model.phases(progress):
            for optimizer in optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            torch.manual_seed(1)
            with engine.autocast():
                losses = model(images[phase.name], phase.name, progress)
            engine.backward(losses["total"])
            if kept is not None:
                scale = float(engine.loss_scale)
                kept["losses"] = {name: value.detach().cpu() for name, value in losses.items()}
                kept["gradients"] = {
                    name: value.grad.cpu() / scale
                    for name, value in model.named_parameters()
                    if value.grad is not None
                }
            engine.step([optimizers[name] for name in phase.optimizers])

    return step


def _three_steps(given, method: str, device: torch.device, precision: str) -> dict:
    """Losses and gradients of the first step, and the weights after the third."""
    kept: dict = {}
    with _alone():
        step = _stepper(given, method, device, precision, kept=kept)
        step()
        found = {name: kept[name] for name in ("losses", "gradients")}
        step()
        step()
    return found | {
        "weights": {name: value.detach().cpu() for name, value in kept["model"].named_parameters()}
    }


@contextmanager
def _alone():
    """accelerate knows one device in a process, and this compares two."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    try:
        yield
    finally:
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()


def _away(found: dict, wanted: dict) -> float:
    return max(
        ((found[key].float() - value).abs().max() / value.abs().max().clamp_min(1e-3)).item()
        for key, value in wanted.items()
    )


def _experiment(given) -> dict:
    """Two epochs of three steps on rendered people."""
    people = given.out / "people"
    if not people.exists():
        synthetic.write("market1501", people, identities=12, images=2, progress=False)
    return {
        "method": {"name": "agw", "backbone": "tiny", "pretrained": None, "streams": 1},
        "data": {
            "name": "market1501",
            "roots": {"market1501": str(people)},
            "size": [48, 24],
            "workers": 0,
            "loaders": {"train": {"sampler": "identity", "identities": 2, "instances": 3}},
        },
        "train": {
            "epochs": 2,
            "device": given.device.type,
            "deterministic": True,
            "optimizers": {"main": {"name": "adam", "lr": 0.001}},
        },
    }


def _seconds(given, step: Callable[[], None]) -> float:
    """Median of some steps, after some that do not count."""
    for _ in range(1 if given.tiny else 5):
        step()
    return statistics.median(_timed(given.device, step) for _ in range(2 if given.tiny else 15))


def _official(given, method: str) -> float:
    import original_steps

    with torch.device(given.device):
        images = {name: batch.to(given.device) for name, batch in _batches(given, method).items()}
        step, _ = getattr(original_steps, method)(given.originals, images, CLASSES)
        return _seconds(given, step)


def _timed(device: torch.device, work: Callable[[], object]) -> float:
    _wait(device)
    begun = time.monotonic()
    work()
    _wait(device)
    return time.monotonic() - begun


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def _forget_peak(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.memory.reset_peak_memory_stats()


def _peak(device: torch.device) -> str:
    return "" if device.type == "cpu" else f"{torch.accelerator.memory.max_memory_allocated() / 2**20:.0f}"


if __name__ == "__main__":
    main()
