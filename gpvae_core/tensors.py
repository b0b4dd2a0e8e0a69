"""Tensors in safetensors files, written whole or not at all; and the precision of a GPU's float32."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from gpvae_core.errors import InputError
from gpvae_core.files import CHECKSUM, read_bytes, write_atomically

Module = TypeVar("Module", bound=nn.Module)


def in_float64(module: Module) -> Module:
    """A copy in float64; on the CPU where its device has none."""
    copy = deepcopy(module)
    on_mps = any(t.device.type == "mps" for t in module.state_dict().values())
    return (copy.cpu() if on_mps else copy).double()


def image_batch(images: Any, shape: Sequence[int]) -> Tensor:
    """Images (B, *shape), a tensor or an array of floats, as a tensor. Raises InputError for anything else."""
    one = f"({', '.join(map(str, shape))})"
    try:
        batch = torch.as_tensor(images)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{type(images).__name__} is no batch of images; give a tensor (B, {one[1:]}") from None
    if tuple(batch.shape[1:]) != tuple(shape) or batch.ndim != len(shape) + 1:
        cure = f"give (B, {one[1:]}" + (", one image x as x[None]" if tuple(batch.shape) == tuple(shape) else "")
        raise InputError(f"the images have the shape {tuple(batch.shape)}, but this model's are {one}; {cure}")
    if not len(batch):
        raise InputError("there is no image in the batch; give one at least")
    if not batch.is_floating_point():
        raise InputError(f"the images hold {batch.dtype}; give pixels in [0, 1] as floats, of bytes x / 255")
    if not bool(torch.isfinite(batch).all()):
        raise InputError("the image holds pixels that are not finite numbers; replace them and try again")
    return batch


def usable_device(name: torch.device | str) -> torch.device:
    """A device that can compute here. Raises InputError."""
    try:
        torch.zeros(1, device=name).item()  # a device that only describes tensors has no numbers to give
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        raise InputError(f"device '{name}' is not usable here; use cpu, or leave the device out") from None


def tensor_bytes(tensors: Mapping[str, Tensor], origin: dict[str, str] | None = None) -> bytes:
    """A safetensors file; ``origin`` is kept in it, with a checksum. The same tensors give the same bytes."""
    data = save_tensors(_plain(tensors))
    return _described(data, (origin or {}) | {CHECKSUM: _checksum(data)})


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors and their names, in safetensors' form."""
    return sha256(save_tensors(_plain(tensors))).hexdigest()


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().cpu().contiguous() for name, t in tensors.items()}


def _described(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with ``metadata`` before its tensors: the library itself writes it in a random order."""
    length = int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors are aligned
    return len(text).to_bytes(8, "little") + text + memoryview(data)[8 + length :]


def _checksum(data: bytes) -> str:
    """Of the tensors and their description, whatever the metadata."""
    length = int.from_bytes(data[:8], "little")
    header = {name: entry for name, entry in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"}
    digest = sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(memoryview(data)[8 + length :])
    return digest.hexdigest()


def metadata(data: bytes) -> dict[str, str]:
    """What a safetensors file says of itself, its checksum included."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return found


def origin_of(path: Path) -> dict[str, str]:
    """What ``tensor_bytes`` was told to keep in a file. Raises InputError naming the file."""
    data = read_bytes(path)
    parse_tensors(data, path)
    return {key: value for key, value in metadata(data).items() if key != CHECKSUM}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], origin: dict[str, str] | None = None) -> None:
    """``tensor_bytes``, atomically."""
    write_atomically(path, tensor_bytes(tensors, origin))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises InputError naming the file."""
    return parse_tensors(read_bytes(path), path)


def parse_tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """``read_tensors`` for bytes that were read from ``path`` already."""
    try:
        tensors: dict[str, Tensor] = load_tensors(data)
        promised = metadata(data).get(CHECKSUM)
        intact = promised is None or promised == _checksum(data)
    except (SafetensorError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); restore it or train again") from None
    if not intact:
        raise InputError(f"{path} is damaged: its checksum is not that of its content; restore it or train again")
    return tensors


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
