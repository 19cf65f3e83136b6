"""Devices that are not there are named before anything is done."""

import os
import subprocess
import sys

import pytest
import torch

import crossreid
from crossreid.__main__ import main
from crossreid.bundled import MODELS
from crossreid.engine import Engine, choose_device
from crossreid.records import UserError

# The second has the number after that of the last one there is.
ABSENT = ["tpu", f"cuda:{torch.cuda.device_count()}", "meta"]


@pytest.mark.parametrize("device", ABSENT)
def test_a_model_is_not_put_on_a_device_that_is_not_there(device):
    for use in (crossreid.Embedder, crossreid.load):
        with pytest.raises(
            UserError, match=f"the device '{device}' cannot be used: torch finds cpu"
        ) as error:
            use(MODELS["small"], device)
        assert "\n" not in str(error.value)


def test_the_device_is_checked_before_a_run_is_begun(settings_file, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE", raising=False)
    for device in ABSENT[:2]:
        with pytest.raises(UserError, match="cannot be used"):
            Engine(device)
        assert main(["train", str(settings_file), "--run", str(tmp_path / "run"), "--device", device]) == 2
        assert f"the device '{device}' cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "run").exists() and "ACCELERATE_TORCH_DEVICE" not in os.environ
    assert Engine("cpu").device.type == "cpu" and crossreid.load(MODELS["small"], torch.device("cpu"))
    assert (
        crossreid.Embedder(MODELS["small"]).device
        == crossreid.Embedder(MODELS["small"], "auto").device
        == str(choose_device())
    )


def run(code, **environment):
    """What a fresh process prints."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout.split()


def test_the_environment_of_accelerate_decides_nothing():
    code = (
        "from crossreid.engine import Engine; import torch; engine = Engine('cpu'); "
        "print(engine._accelerator.mixed_precision, engine.wrap(torch.nn.Linear(1, 1)).__class__.__name__)"
    )
    given = {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}
    assert run(code, **given) == ["no", "Linear"]


def test_a_second_engine_on_another_device_is_refused(monkeypatch):
    from crossreid import engine

    Engine("cpu")
    monkeypatch.setattr(engine, "check_device", lambda device: None)
    with pytest.raises(UserError, match="'cuda:1' was asked for, but this process works on cpu"):
        Engine("cuda:1")
    assert "ACCELERATE_TORCH_DEVICE" not in os.environ


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch):
    Engine("cpu")  # as the only one; what a launcher says later comes too late
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes were started, but on cpu this one found no others"):
        Engine("cpu")


def test_float16_is_scaled_on_the_cpu_too():
    engine = Engine("cpu", "float16")
    assert float(engine.loss_scale) > 1
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    engine.backward((weight * 1e-3).sum())
    engine.step([optimizer])
    torch.testing.assert_close(weight.detach(), torch.full((3,), 1 - 1e-3))


def test_threads_do_not_wait_in_a_loop_unless_the_user_says_so():
    code = "import os, crossreid; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"
    assert run(code) == ["PASSIVE", "1000"]
    assert run(code, OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", "None"]
    assert run(code, GOMP_SPINCOUNT="7") == ["None", "7"]
    assert "torch" not in run("import sys, crossreid; print(*sys.modules)")
