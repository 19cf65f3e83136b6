"""Run a function in two CPU processes that form one group, as a launcher would start them."""

import os
import socket

import torch


def run(function, *arguments) -> None:
    """Call ``function(rank, *arguments)`` in two fresh processes; an error in either is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_enter, (port, function, arguments), nprocs=2)


def _enter(rank, port, function, arguments):
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        ACCELERATE_USE_CPU="true",
    )
    torch.set_num_threads(1)
    function(rank, *arguments)
    torch.distributed.destroy_process_group()
