"""Which region of q a place lies on the edge of: over images with known z, these masses are uniform if q is honest."""

import torch
from torch import Tensor

from gpvae_core.distributions import Posterior


@torch.no_grad()
def mass_above(q: Posterior, z: Tensor, *, draws: int, generator: torch.Generator) -> Tensor:
    """The mass of q where its density is higher than at z, by ``draws`` of each image's q.

    Args:
        q: Of B images.
        z: One place for each of them, (B, d).
        draws: The standard error is at most half of one over the root of their number.
        generator: Of the draws, on q's device.

    Returns:
        The masses, (B,), float64: 0 at q's peak, 1 far out.
    """
    _, log_q = q.rsample_with_log_prob(draws, generator=generator)
    return (log_q > q.log_prob(z[None])[0]).double().mean(0)
