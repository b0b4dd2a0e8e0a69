"""The base grid: a decoder's means over the prior box, decoded once, that answers for any image at once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpvae_core.distributions import standard_normal_log_prob
from gpvae_core.errors import InputError
from gpvae_core.exact.joint import Array, chunk_size
from gpvae_core.files import write_if_possible
from gpvae_core.generative import GaussianLikelihood, GenerativeModel
from gpvae_core.tensors import full_precision, read_tensors, tensor_bytes

STEPS = 2**16 - 1  # between black and white
CHECKED, ALIKE = 5, 1e-4  # nodes of a grid that is read from a file, and how near their means lie to a decode's
PACKED_BELOW = 0.4  # s_x: above it the grid in float32 serves the integral, and 16 bits would not


@dataclass(frozen=True)
class BaseGrid:
    """Natural parameters of p(x|z) at the nodes of a square grid over [-half_width, half_width]^2.

    ``axis`` (n,); ``eta`` (n*n, P) and, in float64, ``constant`` (n*n,) = log p(z) - sum A, row index i*n + k for the
    node (z_1, z_2) = (axis[i], axis[k]). ``packed``: whether ``eta`` is made of pixel means in 16 bits.
    """

    axis: Array
    eta: Tensor
    constant: Array
    packed: bool = False

    @property
    def spacing(self) -> float:
        return float(self.axis[1] - self.axis[0])

    @property
    def exact(self) -> bool:
        """Whether log p(x, z) at the nodes is as good as decoded there."""
        return not self.packed

    @property
    def points(self) -> Array:
        """The nodes, (n*n, 2)."""
        return grid_points(self.axis, self.axis)

    @torch.no_grad()
    def log_joint(self, model: GenerativeModel, images: Tensor) -> Array:
        """log p(x, z) at the nodes in nats, (B, n, n) for images (B, C, H, W): one matrix product.

        Good to about 1e-7 |x|^2 / s_x^2 nats, by cancellation, and to 5e-6 |x - g(z)| / s_x^2 where it is ``packed``:
        where s_x is large it serves the integral too.
        """
        x = images.flatten(1).to(self.eta)
        linear = (self.eta @ x[0])[None] if len(x) == 1 else x @ self.eta.T
        base = _exact_sum(model.likelihood.log_base(images))
        n = len(self.axis)
        values: Array = (linear.cpu().double().numpy() + self.constant + base[:, None]).reshape(-1, n, n)
        return values


def grid_points(first: Array, second: Array) -> Array:
    """All pairs (first[i], second[k]), row-major, (len(first) * len(second), 2)."""
    return np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)


@torch.no_grad()
@full_precision()
def build_grid(
    model: GenerativeModel, half_width: float, nodes: int, *, on_decoded: Callable[[int], None] = lambda count: None
) -> BaseGrid:
    """Decode a (nodes, nodes) grid over [-half_width, half_width]^2; ``on_decoded`` is told how many nodes are done.

    Raises InputError on non-finite means.
    """
    parameter = next(model.parameters(), torch.zeros(()))
    axis = np.linspace(-half_width, half_width, nodes)
    z = torch.as_tensor(grid_points(axis, axis), dtype=parameter.dtype, device=parameter.device)
    eta, size = z.new_empty(0), chunk_size(z.device)
    for start in range(0, len(z), size):
        means = model.decode(z[start : start + size]).flatten(1)
        if start == 0:
            eta = z.new_empty(len(z), means.shape[1])
        eta[start : start + size] = means
        on_decoded(start + len(means))
    packed = _can_be_packed(model, eta)
    constant = _exact_sum(standard_normal_log_prob(z)[:, None])
    for rows, means in zip(np.split(constant, range(size, len(z), size)), eta.split(size), strict=True):
        part, normaliser = model.likelihood.natural(_unpacked(_packed(means), means) if packed else means)
        rows -= _exact_sum(normaliser)
        means.copy_(part)  # in the same memory
    if not np.isfinite(constant).all():
        raise InputError(
            "the decoder gives non-finite pixel means inside the prior box; its weights are damaged or its inputs "
            "need another scale: train it again or restore the checkpoint"
        )
    return BaseGrid(axis, eta, constant, packed)


def _can_be_packed(model: GenerativeModel, means: Tensor) -> bool:
    """Whether 16 bits for each of all the pixel means (n, P) do: not where the grid itself serves the integral."""
    narrow = isinstance(model.likelihood, GaussianLikelihood) and float(model.likelihood.std) < PACKED_BELOW
    return narrow and bool((means >= 0).all() and (means <= 1).all())


def _packed(means: Tensor) -> Tensor:
    """Pixel means in [0, 1] as 16-bit steps: half of float32, and closer to a mean than 1e-5."""
    return (torch.round(means * STEPS) - 2**15).to("cpu", torch.int16)


def _unpacked(codes: Tensor, like: Tensor) -> Tensor:
    means: Tensor = (codes.to(like) + 2**15) / STEPS
    return means


def _exact_sum(terms: Tensor) -> Array:
    """Sums over all but the first dimension, in float64."""
    sums: Array = terms.flatten(1).cpu().double().sum(1).numpy()
    return sums


def open_grid(
    model: GenerativeModel,
    half_width: float,
    nodes: int,
    folder: Path,
    digest: str,
    *,
    on_decoded: Callable[[int], None] = lambda count: None,
) -> BaseGrid:
    """``build_grid``, kept in ``folder`` under the checkpoint's digest, if that can be written.

    A file that does not fit is made anew and written over, never deleted: another process may just have mended it.
    """
    path = folder / f"{digest}-{half_width:g}-{nodes}.safetensors"
    grid = _read_grid(path, model, half_width, nodes)
    if grid is None:
        grid = build_grid(model, half_width, nodes, on_decoded=on_decoded)
        kept = {"means16": _codes(model, grid.eta)} if grid.packed else {"eta": grid.eta}
        write_if_possible(path, tensor_bytes(kept | {"constant64": torch.from_numpy(grid.constant)}))
    return grid


@torch.no_grad()
def _codes(model: GenerativeModel, eta: Tensor) -> Tensor:
    """The 16-bit means that ``eta`` is made of: rounding finds them again."""
    return torch.cat([_packed(model.likelihood.mean_of(part)) for part in eta.split(chunk_size(eta.device))])


@torch.no_grad()
def _read_grid(path: Path, model: GenerativeModel, half_width: float, nodes: int) -> BaseGrid | None:
    """The grid in a file, on the model's device and in its dtype; None where there is no whole one."""
    parameter = next(model.parameters(), torch.zeros(()))
    try:
        tensors = read_tensors(path)
        codes, constant = tensors.get("means16"), tensors["constant64"].numpy()
        if codes is None:
            eta = tensors["eta"].to(parameter)
        else:
            eta, size = parameter.new_empty(codes.shape), chunk_size(parameter.device)
            for rows, part in zip(eta.split(size), codes.split(size), strict=True):
                rows.copy_(model.likelihood.natural(_unpacked(part, parameter))[0])
    except (InputError, ValueError, KeyError, RuntimeError):
        return None  # missing, damaged or foreign: a cache may be rebuilt
    if len(eta) != nodes**2 or constant.shape != (nodes**2,):
        return None
    grid = BaseGrid(np.linspace(-half_width, half_width, nodes), eta, constant, codes is not None)
    return grid if _is_of(model, grid) else None


@full_precision()
def _is_of(model: GenerativeModel, grid: BaseGrid) -> bool:
    """Whether ``model`` decodes a few nodes to what the grid has there: weights alone do not make a decoder."""
    points = grid.points
    rows = np.linspace(0, len(points) - 1, CHECKED).round().astype(int)
    means = model.decode(torch.as_tensor(points[rows]).to(grid.eta)).flatten(1)
    kept = model.likelihood.mean_of(grid.eta[rows])
    return kept.shape == means.shape and torch.allclose(kept, means, rtol=ALIKE, atol=ALIKE)
