"""Devices that are not there are named before anything is done."""

import os

import pytest
import torch

import crossreid
from crossreid.__main__ import main
from crossreid.bundled import SMALL
from crossreid.engine import Engine
from crossreid.records import UserError

# The second has the number after that of the last one there is.
ABSENT = ["tpu", f"cuda:{torch.cuda.device_count()}", "meta", "auto"]


@pytest.mark.parametrize("device", ABSENT)
def test_a_model_is_not_put_on_a_device_that_is_not_there(device):
    for use in (crossreid.Embedder, crossreid.load):
        with pytest.raises(
            UserError, match=f"the device '{device}' cannot be used: torch finds cpu"
        ) as error:
            use(SMALL, device)
        assert "\n" not in str(error.value)


def test_the_device_is_checked_before_a_run_is_begun(settings_file, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE", raising=False)
    for device in ABSENT[:2]:
        with pytest.raises(UserError, match="cannot be used"):
            Engine(device)
        assert main(["train", str(settings_file), "--run", str(tmp_path / "run"), "--device", device]) == 2
        assert f"the device '{device}' cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "run").exists() and "ACCELERATE_TORCH_DEVICE" not in os.environ
    assert Engine("cpu").device.type == "cpu" and crossreid.load(SMALL, torch.device("cpu"))
