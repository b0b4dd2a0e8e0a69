"""E log X^2 and its gradients against mpmath, over every regime."""

from functools import lru_cache

import mpmath as mp
import numpy as np
import pytest
import torch

from gpvae_core.distributions.special import expected_log_square

RATIOS = [0, 1e-6, 1e-3, 0.1, 1, 2, 5, 9, 13.9, 14.1423, 14.15, 20, 100, 1e3, 1e4, 1e6]  # 10 sqrt(2) = 14.142...
STDS = [1e-8, 1e-4, 1.0, 1e2]


@lru_cache
def reference(ratio: float) -> tuple[float, float, float]:
    """g(r) = E log (r + eps)^2 by quadrature up to the singularity, g'(r), and 2 - r g'(r), at 40 digits."""
    with mp.workdps(40):
        r = mp.mpf(ratio)

        def g(r: mp.mpf) -> mp.mpf:
            def integrand(e: mp.mpf) -> mp.mpf:
                return mp.log((r + e) ** 2) * mp.npdf(e)

            inside = [-r] if r < 16 else []
            return mp.quad(integrand, sorted([-16, -8, *inside, -3, 0, 3, 8, 16]))

        # the slope, E 2/(r + eps) as a principal value: folded about the singularity, the integrand is smooth
        def folded(e: mp.mpf) -> mp.mpf:
            return 2 * (mp.npdf(e - r) - mp.npdf(-e - r)) / e

        slope = (
            mp.quad(folded, [0, 0.5, 2, 8, 16, 30])
            if r < 20
            else mp.quad(lambda e: 2 / (r + e) * mp.npdf(e), [-16, -8, 0, 8, 16])
        )
        return float(g(r)), float(slope), float(2 - r * slope)  # log s^2 + g(m/s), derived in s


def relative(value: float, wanted: float, floor: float) -> float:
    return abs(value - wanted) / max(abs(wanted), floor)


@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-12), (torch.float32, 3e-6)])
def test_value_and_gradients_match_mpmath(ratio, std, dtype, tolerance):
    m = torch.tensor(ratio * std, dtype=dtype, requires_grad=True)
    s = torch.tensor(std, dtype=dtype, requires_grad=True)
    actual_ratio = float(m.detach().double() / s.detach().double())  # what dtype made of it
    value = expected_log_square(m, s)
    value.backward()
    g, slope, spread = reference(actual_ratio)
    log_s2 = 2 * np.log(float(s.detach().double()))
    assert relative(float(value.detach()), g + log_s2, floor=max(1.0, abs(log_s2))) < tolerance
    assert relative(float(m.grad * s.detach()), slope, floor=1e-6) < tolerance
    assert relative(float(s.grad * s.detach()), spread, floor=0.0) < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_std_is_the_plain_logarithm(dtype):
    m = torch.tensor([0.3, -2.0, 1e-5], dtype=dtype, requires_grad=True)
    s = torch.zeros(3, dtype=dtype, requires_grad=True)
    value = expected_log_square(m, s)
    value.sum().backward()
    torch.testing.assert_close(value.detach(), torch.log(m.detach() ** 2))
    torch.testing.assert_close(m.grad, 2 / m.detach())
    assert torch.equal(s.grad, torch.zeros(3, dtype=dtype))


def test_both_zero_is_minus_infinity():
    assert expected_log_square(torch.tensor(0.0), torch.tensor(0.0)) == -torch.inf


def test_sign_of_the_mean_does_not_matter_and_shapes_broadcast():
    m, s = torch.linspace(-3, 3, 7), torch.tensor([[0.1], [1.0]])
    value = expected_log_square(m, s)
    assert value.shape == (2, 7)
    torch.testing.assert_close(value, value.flip(-1))


def test_gradients_agree_with_finite_differences_across_the_seam():
    s = torch.tensor([0.05, 0.07, 0.0707, 0.0708, 0.5], dtype=torch.float64, requires_grad=True)
    m = torch.ones(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(expected_log_square, (m, s), eps=1e-6, atol=1e-7)
