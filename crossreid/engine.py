"""The few calls made to accelerate: devices, processes, mixed precision. Nothing else in the library names a device."""

from __future__ import annotations

import datetime
import importlib
import os
import random
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch

from crossreid.records import UserError

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Engine:
    """One process's view of the machine.

    device: ``"auto"`` (an accelerator when there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"npu"``, ...
    precision: a name in ``PRECISIONS``; distances and losses stay in float32 whatever it is.
    search_unused: let the data-parallel wrapper look for parameters without a gradient. Needed when a phase does not
        reach every parameter, harmful otherwise.

    lag: how many batches may be under way before the host asks for the losses of the oldest: none on the CPU, where
    waiting costs nothing.

    Raises UserError where the device is not there, or where this process or its launcher has settled on another.
    """

    def __init__(self, device: str = "auto", precision: str = "float32", search_unused: bool = False):
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

        processes = int(os.environ.get("WORLD_SIZE", "1"))
        if device == "auto":
            device = "cpu" if choose_device(device).type == "cpu" else device
        elif device != "cpu" and processes == 1:
            check_device(device)
        parallel = DistributedDataParallelKwargs(find_unused_parameters=search_unused)
        # One process may score for a long time while the others wait. Who stands still is noticed in training itself.
        patient = InitProcessGroupKwargs(timeout=datetime.timedelta(days=1))
        # Said in full, so that nothing in accelerate's environment decides it.
        with _environment(
            ACCELERATE_TORCH_DEVICE=None if device in ("auto", "cpu") or processes > 1 else device
        ):
            self._accelerator = Accelerator(
                cpu=device == "cpu",
                mixed_precision="no",
                dynamo_backend="no",
                kwargs_handlers=[parallel, patient],
            )
        self.device = self._accelerator.device
        self.rank, self.world = self._accelerator.process_index, self._accelerator.num_processes
        self.main = self._accelerator.is_main_process
        self._check(device, processes)
        self.lag = 0 if self.device.type == "cpu" else 1
        self._dtype = PRECISIONS[precision]
        scaled = self._dtype is torch.float16
        self._scaler = torch.amp.GradScaler(self.device.type) if scaled else None

    def _check(self, asked: str, processes: int) -> None:
        """Raise UserError unless this is the device and the number of processes that were asked for."""
        if asked != "auto":
            wanted = torch.device(asked)
            if wanted.type != self.device.type or wanted.index not in (None, self.device.index):
                raise UserError(
                    f"the device {asked!r} was asked for, but this process works on {self.device}, which an earlier "
                    "run in it, its launcher or a variable named ACCELERATE_... chose: use one device in a process"
                )
        if processes > 1 and self.world == 1:
            raise UserError(
                f"WORLD_SIZE says that {processes} processes were started, but on {self.device} this one found no "
                "others: each would train a model of its own. Start them with torchrun or accelerate launch on a "
                "device that several processes can share, or start one"
            )

    def wrap(self, method):
        """The method on this device, made data-parallel when there are several processes."""
        wrapped = self._accelerator.prepare_model(method)
        if isinstance(wrapped, torch.nn.parallel.DistributedDataParallel):
            # Each process keeps the running statistics of its own batches: copying them at every forward would change
            # buffers in the middle of a step, and `agree` makes them equal where it matters. Said afterwards, since the
            # word for it in the wrapper's arguments is on its way out of torch.
            wrapped.broadcast_buffers = False
        return wrapped

    @property
    def exact(self) -> bool:
        """Whether networks compute in float32 throughout."""
        return self._dtype is None

    def autocast(self):
        return nullcontext() if self._dtype is None else torch.autocast(self.device.type, dtype=self._dtype)

    def unsynchronised(self, wrapped):
        """Gradients gathered inside stay in this process until the next backward outside."""
        return self._accelerator.no_sync(wrapped)

    @property
    def loss_scale(self) -> float | torch.Tensor:
        """What ``backward`` multiplies a loss with; a number on the device where it changes, so that nobody waits."""
        return 1.0 if self._scaler is None else self._scaler.scale(torch.ones((), device=self.device))

    def fetch(self, values: torch.Tensor) -> Callable[[], list[float]]:
        """Start to bring the values of a tensor (N,) to the host. The function returned waits for them, and for
        nothing that the device is given later."""
        if self.device.type == "cpu":
            return values.tolist
        there = values.to("cpu", non_blocking=True)
        done = torch.Event(self.device.type)
        done.record()

        def wait() -> list[float]:
            done.synchronize()
            return there.tolist()

        return wait

    def backward(self, loss: torch.Tensor) -> None:
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def step(self, optimizers, clip: float = 0.0) -> None:
        """Step all optimizers of a phase after its one backward. clip: longest gradient of each one's parameters
        together; 0 for any."""
        if clip:
            for optimizer in optimizers:
                if self._scaler is not None:
                    self._scaler.unscale_(optimizer)
                values = [value for group in optimizer.param_groups for value in group["params"]]
                torch.nn.utils.clip_grad_norm_(values, clip)
        if self._scaler is None:
            for optimizer in optimizers:
                optimizer.step()
            return
        for optimizer in optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()  # once for all of them: the scale must not change between two optimizers

    def state(self) -> dict:
        return {} if self._scaler is None else {"scaler": self._scaler.state_dict()}

    def load_state(self, state: dict) -> None:
        if self._scaler is not None and "scaler" in state:
            self._scaler.load_state_dict(state["scaler"])

    def any(self, flag: bool) -> bool:
        """True when the flag is true in any process."""
        if self.world == 1:
            return flag
        return bool(self._accelerator.reduce(torch.tensor(float(flag), device=self.device), "sum") > 0)

    def mean(self, values: list[float]) -> list[float]:
        """Mean over processes."""
        return [sum(each) / self.world for each in zip(*self.gather_numbers(values))]

    def of_the_first(self, text: str) -> str:
        """The first process's text, in every process."""
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([text])[0] if self.world > 1 else text

    def gather_numbers(self, values: list[float]) -> list[list[float]]:
        """The values of each process, in order of the processes; the same number of values in each."""
        if self.world == 1 or not values:
            return [values] * self.world
        return self.gather(torch.tensor([values], dtype=torch.float64)).tolist()

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Rows of all processes, in order of the processes; the same number of rows in each."""
        return tensor if self.world == 1 else self._accelerator.gather(tensor.to(self.device).contiguous())

    def share(self, value):
        """What the first process has, in every process."""
        if self.world == 1:
            return value
        held = [value]
        torch.distributed.broadcast_object_list(held, 0)
        return held[0]

    def agree(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every process the values of the first one, such as the running statistics of a method."""
        if self.world > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor.detach(), 0)

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        if self.world > 1:
            self._accelerator.end_training()

    def memory(self) -> int | None:
        """Peak memory of this process in bytes: the accelerator's where there is one, else resident memory."""
        backend: Any = getattr(torch, self.device.type, None)
        if self.device.type != "cpu" and hasattr(backend, "max_memory_allocated"):
            return int(backend.max_memory_allocated())
        try:
            import resource
        except ImportError:  # Windows
            return None
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def _environment(**values: str | None):
    """Inside, environment variables have these values, or are not there."""
    before = {name: os.environ.pop(name, None) for name in values}
    os.environ.update({name: value for name, value in values.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device to work on: ``"auto"`` is the accelerator that torch finds, or else the CPU."""
    if str(device) != "auto":
        return torch.device(device)
    with suppress(ImportError):  # it teaches torch the device
        importlib.import_module("torch_npu")
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def check_device(device: str | torch.device) -> None:
    """Raise UserError, which names what there is, for a device that cannot be worked on."""
    if str(device).startswith("npu"):
        # It teaches torch the device, and torch before 2.5 does not load it by itself.
        with suppress(ImportError):
            importlib.import_module("torch_npu")
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # each kind of device fails in its own way
        backends: dict[str, Any] = {
            kind: getattr(torch, kind, None) for kind in ("cuda", "npu", "xpu", "mps")
        }
        found = [
            f"{kind}:{number}"
            for kind, backend in backends.items()
            if hasattr(backend, "is_available") and backend.is_available()
            for number in range(backend.device_count())
        ]
        raise UserError(
            f"the device {str(device)!r} cannot be used: torch finds {', '.join(['cpu', *found])}. Choose one of "
            "these, or install the driver and the build of torch for that device"
        ) from error


def seed_step(seed: int, *numbers: int) -> None:
    """Seed every generator from the run's seed and a step's own numbers.

    Random draws thereby depend on which batch is trained on and not on what ran before, so a resumed run and one
    spread over several processes draw what an uninterrupted single one draws.
    """
    state = int(np.random.SeedSequence((seed, *numbers)).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(state)
    random.seed(state)
    np.random.seed(state % 2**32)


def tune(tf32: bool = False, cudnn_benchmark: bool = False) -> None:
    """How an NVIDIA GPU computes in training: torch by itself would shorten convolutions, but not products."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = cudnn_benchmark


def deterministic() -> None:
    """Ask for repeatable results on accelerators, at some cost in speed."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
