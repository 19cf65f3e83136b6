"""Write the files of this folder with MindSpore itself: python tests/data/mindspore/make.py

Needs MindSpore alone; README.md says with which version the committed files were made, ``values.py`` what they hold.
"""

import os
import sys
from pathlib import Path

import mindspore
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train import serialization

sys.path.insert(0, str(Path(__file__).parent))
from values import ADDED, LONG, TENSORS, TYPES, WEIGHTS

FOLDER = Path(__file__).parent


class Network(nn.Cell):
    """A convolution with its shortcut, as the published programs call them, and a layer of either normalisation."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 3)
        self.bn1 = nn.BatchNorm2d(2)
        self.down_sample_layer = nn.SequentialCell([nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)])
        self.end_point = nn.Dense(2, 3)
        for name, parameter in self.parameters_and_names():
            parameter.set_data(Tensor(WEIGHTS[name]))

    def construct(self, images):
        maps = self.bn1(self.conv1(images)) + self.down_sample_layer(images)
        return self.end_point(maps.mean((2, 3)))


class Criterion(nn.Cell):
    """A network with its loss, and a number that is kept as a parameter, as the program of MVD does."""

    def __init__(self, network):
        super().__init__()
        self._backbone = network
        self.loss_id = Parameter(Tensor([0.0], mindspore.float32), name="loss_id")

    def construct(self, images, labels):
        return ops.cross_entropy(self._backbone(images), labels)


class Step(nn.Cell):
    """A whole training cell: criterion and optimizer."""

    def __init__(self, network, optimizer):
        super().__init__()
        self.network = network
        self.optimizer = optimizer


def write(folder: Path) -> None:
    """All files of the folder, each by a function of MindSpore."""
    records = [{"name": name, "data": _tensor(name, value)} for name, value in TENSORS.items()]
    mindspore.save_checkpoint(records, str(folder / "types.ckpt"), append_dict=ADDED)
    mindspore.save_checkpoint(records[:2], str(folder / "checksum.ckpt"), crc_check=True)
    serialization.SLICE_SIZE, usual = 1, serialization.SLICE_SIZE  # in units of 1024 bytes
    sliced = [{"name": name, "data": Tensor(value)} for name, value in LONG.items()]
    mindspore.save_checkpoint(sliced, str(folder / "sliced.ckpt"))
    serialization.SLICE_SIZE = usual
    mindspore.save_checkpoint(Network(), str(folder / "network.ckpt"))
    mindspore.ckpt_to_safetensors(str(folder / "network.ckpt"), str(folder))
    network = Network()
    mindspore.save_checkpoint(Network(), str(folder / "saved.safetensors"), format="safetensors")
    criterion = Criterion(network)
    optimizer = nn.Adam([{"params": network.trainable_params(), "lr": [0.1, 0.2]}], 0.1)
    mindspore.save_checkpoint(Step(criterion, optimizer), str(folder / "training_cell.ckpt"))
    for path in (*folder.glob("*.ckpt"), *folder.glob("*.safetensors")):
        os.chmod(path, 0o644)


def _tensor(name, value):
    kind = getattr(mindspore, TYPES[name])
    return Tensor(value.tolist(), kind)


if __name__ == "__main__":
    for old in (*FOLDER.glob("*.ckpt"), *FOLDER.glob("*.safetensors")):
        old.unlink()
    write(FOLDER)
    print(f"written by MindSpore {mindspore.__version__}")
