"""The entropy of an uneven mixture, against SciPy's adaptive cubature and against what a mixture of one must have."""

import numpy as np
import pytest
import torch
from scipy.integrate import cubature

from gpvae_core.distributions import DiagonalGaussian, FullGaussian, Mixture
from gpvae_core.exact.entropies import entropy, uneven
from gpvae_core.exact.expectations import centre_and_frame


def mixture(seed: int, parts: int, narrowest: float) -> Mixture:
    """Gaussians of very different widths about the origin, the first the narrowest, every second one correlated."""
    generator = torch.Generator().manual_seed(seed)
    gaussians = []
    for k in range(parts):
        mean, log_std = torch.randn(2, 2, generator=generator, dtype=torch.float64)
        std = torch.exp(log_std) * (narrowest if k == 0 else 1)
        tilted = torch.diag(std) + torch.tensor([[0, 0], [0.7, 0]], dtype=torch.float64) * std[1]
        gaussians.append(FullGaussian(0.3 * mean, tilted) if k % 2 else DiagonalGaussian(0.3 * mean, std))
    weights = torch.randn(parts, generator=generator, dtype=torch.float64)
    return Mixture(torch.log_softmax(weights, 0), tuple(gaussians))


@pytest.mark.parametrize(("seed", "parts", "narrowest"), [(0, 2, 0.1), (1, 3, 0.01), (2, 4, 0.3)])
def test_it_is_what_scipy_finds_between_the_parts_own_places(seed, parts, narrowest):
    q = mixture(seed, parts, narrowest)
    placed = [centre_and_frame(part) for _, part in q.parts()]
    assert uneven(placed)

    def minus_q_log_q(z):
        log_q = q.log_prob(torch.as_tensor(z)).numpy()
        return -np.exp(log_q) * np.maximum(log_q, -700)

    cuts = [
        np.unique([c[axis] + r * np.linalg.norm(f[axis]) for c, f in placed for r in (-10, -4, -1, 1, 4, 10)])
        for axis in (0, 1)
    ]
    boxes = [
        ([a, c], [b, d])
        for a, b in zip(cuts[0][:-1], cuts[0][1:], strict=True)
        for c, d in zip(cuts[1][:-1], cuts[1][1:], strict=True)
    ]
    truth = sum(float(cubature(minus_q_log_q, *box, rule="gk21", atol=1e-9, rtol=0).estimate) for box in boxes)
    value, error = entropy(q, placed)
    assert abs(value - truth) <= max(error, 1e-8) < 1e-5


def test_parts_that_are_the_same_have_the_entropy_of_one():
    one = DiagonalGaussian(torch.tensor([0.2, -0.4]).double(), torch.tensor([1e-3, 0.5]).double())
    q = Mixture(torch.tensor([0.3, 0.7]).double().log(), (one, one))
    value, error = entropy(q, [centre_and_frame(one)] * 2)
    assert abs(value - float(one.entropy())) <= error < 1e-5
