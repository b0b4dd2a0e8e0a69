"""Tensors in safetensors files, written whole or not at all; and the precision of a GPU's float32."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from gpvae_core.errors import InputError
from gpvae_core.files import read_bytes, write_atomically


def tensor_bytes(tensors: Mapping[str, Tensor], origin: dict[str, str] | None = None) -> bytes:
    """A safetensors file; ``origin`` is kept in it. The same tensors give the same bytes."""
    return save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata=origin)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Safetensors, atomically."""
    write_atomically(path, tensor_bytes(tensors))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises InputError naming the file."""
    return parse_tensors(read_bytes(path), path)


def parse_tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """``read_tensors`` for bytes that were read from ``path`` already."""
    try:
        return load_tensors(data)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); restore it or train again") from None


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 that is float32 on a GPU too: cuDNN rounds the factors of convolutions to 10 bits unless told otherwise.

    For evaluation; also a decorator. Training may round.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before
