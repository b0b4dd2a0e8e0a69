"""The decoder's Jacobian in one pass, against autograd's, layer by layer and for a module of any kind."""

import pytest
import torch
from torch import nn

from gpvae_core.generative.networks import ConvDecoder, DenseDecoder
from gpvae_core.generative.tangents import with_jacobian
from tests.decoders import FOLDED, Features

LAYERED = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 3, 2), nn.Flatten())
DECODERS = {
    "silu": (ConvDecoder((1, 28, 28), (4, 6, 5), 7, "silu", 2), 2),
    "relu, colour, d = 5": (ConvDecoder((3, 16, 16), (4, 6), 7, "relu", 5), 5),
    "dense, colour": (DenseDecoder((3, 4, 4), 7, "silu", 2), 2),
    "layers": (LAYERED, 3),
    "a module of its own": (Features(FOLDED[3][0]), 2),
    "normalised over the batch": (nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6).eval(), nn.Sigmoid()), 2),
}


@pytest.mark.parametrize("name", DECODERS)
def test_value_and_jacobian_are_autograds(name):
    decoder, dim = DECODERS[name]
    decoder = decoder.double()
    z = torch.randn(4, dim, generator=torch.Generator().manual_seed(0)).double()
    means, jacobian = with_jacobian(decoder, z)
    torch.testing.assert_close(means, decoder(z).flatten(1).detach())
    for k in range(4):
        wanted = torch.autograd.functional.jacobian(lambda v: decoder(v).flatten(), z[k : k + 1])[:, 0]
        torch.testing.assert_close(jacobian[k], wanted)
    assert not means.requires_grad and not jacobian.requires_grad
