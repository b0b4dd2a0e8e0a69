"""Several processes that train one model: torchrun starts them, torch.distributed joins them. One process is alone."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from gpvae_core.errors import InputError, short

STARTED = "WORLD_SIZE"  # torchrun says by it how many processes it started


def count() -> int:
    """How many there are."""
    return distributed.get_world_size() if _together() else 1


def rank() -> int:
    """The number of this one, from 0; number 0 writes."""
    return distributed.get_rank() if _together() else 0


def speaks() -> bool:
    """Whether this one speaks for all, before they have joined and after: torchrun's number 0, or the only one."""
    return int(os.environ.get(STARTED, "1")) == 1 or os.environ.get("RANK") == "0"


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def wait() -> None:
    """Until all have come here."""
    if _together():
        distributed.barrier()


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, by one message."""
    if count() > 1:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def _said(name: str, *, least: int, otherwise: str = "") -> int:
    """The number that torchrun gives as ``name`` in the environment. Raises InputError where it is none."""
    said = os.environ.get(name, otherwise)
    if not said.isdecimal() or int(said) < least:
        raise InputError(f"{name}='{short(said)}' is no whole number from {least} up; unset it, or start by torchrun")
    return int(said)


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun has started, if it has; gives this one's own device.

    Raises InputError on a device that no messages can be sent between, or where the others cannot be found.
    """
    if _said(STARTED, least=1, otherwise="1") == 1:
        yield device
        return
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"several processes train on cpu or cuda, not on {device.type}; give --device")
    if device.type == "cuda":
        device = torch.device("cuda", _said("LOCAL_RANK", least=0))
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the {os.environ[STARTED]} processes of {STARTED} cannot join ({error}); start them by torchrun"
        ) from None
    try:
        yield device
    finally:
        distributed.destroy_process_group()
