"""Images turned, sheared, stretched and shifted a little: what an encoder should not mind."""

from math import pi

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

TURN, SHEAR, STRETCH, SHIFT = pi / 12, 0.2, 0.15, 0.15  # the most that a copy differs; shifts in half widths
NUMBERS = 6  # that make one transformation


def warped(x: Tensor, draws: Tensor) -> Tensor:
    """Images x (B, C, H, W), each transformed as its ``draws`` (B, 6) in [-1, 1] say; 0 leaves an image as it is."""
    turn, shear, wide, high, right, down = draws.to(x).unbind(-1)
    cos, sin, one = torch.cos(TURN * turn), torch.sin(TURN * turn), torch.ones_like(turn)
    rotation = torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)
    form = torch.stack([one + STRETCH * wide, SHEAR * shear, 0 * one, one + STRETCH * high], -1).reshape(-1, 2, 2)
    theta = torch.cat([rotation @ form, SHIFT * torch.stack([right, down], -1)[..., None]], -1)
    return grid_sample(x, affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def random_draws(count: int, *, generator: torch.Generator) -> Tensor:
    """Uniform ``draws`` for ``warped``, (count, 6), on the generator's device."""
    return 2 * torch.rand(count, NUMBERS, generator=generator, device=generator.device) - 1
