"""The one place that imports zuko: a masked network for autoregressive flows."""

from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution

from gpvae_core.extras import extras


def masked_network(dim: int, context: int, width: int, gate: float) -> nn.Module:
    """(z, context) (..., dim + context) -> shifts and gates (..., 2 dim): those of coordinate i see z_j for j < i only.

    All of them see the context. Gates begin at about ``gate``. The weights come from torch's global random stream.
    """
    order = torch.arange(dim)
    sees = torch.cat([order[:, None] > order, torch.ones(dim, context, dtype=torch.bool)], 1)
    network: nn.Module = _zuko().nn.MaskedMLP(torch.cat([sees, sees]), [width, width], activation=nn.SiLU)
    last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.bias[dim:] += gate
    return network


def _zuko() -> Any:
    """zuko, which switches off torch's checks of distributions for everybody: here they stay as they were."""
    before = Distribution._validate_args
    with extras():
        import zuko.nn
    Distribution.set_default_validate_args(before)
    return zuko
