"""A decoder's value and Jacobian in one pass: tangents go through its layers beside the value."""

import torch
from torch import Tensor, nn

LINEAR = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Flatten, nn.Unflatten, nn.Identity)
POINTWISE = (nn.SiLU, nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.GELU, nn.Softplus, nn.LeakyReLU)


@torch.no_grad()
def with_jacobian(decoder: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """g(z) (B, P) and its Jacobian (B, P, d), for z (B, d), in z's precision.

    A sequence of layers that are linear or work on each number alone takes 1 + d decodes and keeps no graph. Any other
    module is differentiated backwards, twice. torch's own forward mode has one state for all threads.
    """
    layers = list(decoder.children()) if isinstance(decoder, nn.Sequential) else [decoder]
    if not all(isinstance(layer, LINEAR + POINTWISE) for layer in layers):
        return _backwards(decoder, z)
    d, rows = z.shape[1], len(z)
    directions = torch.eye(d, dtype=z.dtype, device=z.device).repeat_interleave(rows, 0)
    both = torch.cat([z, directions])  # the value's rows, then d times as many: all of dz_1 first
    for layer in layers:
        if isinstance(layer, LINEAR):
            both = layer(both)
            if (constant := getattr(layer, "bias", None)) is not None:  # which moves no tangent
                both[rows:] -= constant.reshape(-1, *[1] * (both.dim() - 2))
        else:
            both[:rows], slope = _pointwise(layer, both[:rows])
            both[rows:].unflatten(0, (d, rows)).mul_(slope)
    return both[:rows].flatten(1), both[rows:].reshape(d, rows, -1).permute(1, 2, 0)


@torch.enable_grad()
def _pointwise(layer: nn.Module, value: Tensor) -> tuple[Tensor, Tensor]:
    """Value and derivative of a function of each number."""
    value = value.detach().requires_grad_()
    out = layer(value)
    (slope,) = torch.autograd.grad(out.sum(), value)
    return out.detach(), slope


@torch.enable_grad()
def _backwards(decoder: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """The same for any module: Jv is the derivative of J'u by u."""
    z = z.detach().requires_grad_()
    means = decoder(z).flatten(1)
    u = torch.zeros_like(means, requires_grad=True)
    (pulled,) = torch.autograd.grad(means, z, u, create_graph=True)
    columns = [torch.autograd.grad(pulled[:, j].sum(), u, retain_graph=True)[0] for j in range(z.shape[1])]
    return means.detach(), torch.stack(columns, -1)
