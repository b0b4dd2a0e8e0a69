"""The decoder's own layer against torch's."""

import pytest
import torch
from torch import nn

from gpvae_core.generative.networks import FoldedConvTranspose2d


@pytest.mark.parametrize(("channels", "size", "odd"), [(1, 14, 0), (3, 7, 0), (1, 3, 1)])
def test_folded_transposed_convolution_is_torchs(channels, size, odd, generator):
    options = {"kernel_size": 4, "stride": 2, "padding": 1, "output_padding": odd}
    folded = FoldedConvTranspose2d(8, channels, **options).double()
    plain = nn.ConvTranspose2d(8, channels, **options).double()
    plain.load_state_dict(folded.state_dict())
    x = torch.randn(5, 8, size, size, generator=generator).double()
    torch.testing.assert_close(folded(x), plain(x), rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(layer(x).square().sum(), layer.weight)[0] for layer in (folded, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
