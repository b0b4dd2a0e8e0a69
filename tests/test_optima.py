"""The benchmark that seeks the best Gaussian of each image, against closed forms."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import gap_tables, optima
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.exact import PosteriorEngine
from tests.decoders import correlated


def test_more_images_hold_the_fewer():
    assert set(optima.chosen(2000, 125)) < set(optima.chosen(2000, 250)) < set(range(2000))
    assert optima.chosen(359, 359) == list(range(359)) and len(optima.chosen(2000, 125)) == 125


def test_the_best_of_each_family_is_the_closed_forms():
    """Full: the posterior itself. Diagonal: the precision's diagonal, log(prod of it / its determinant) / 2 below."""
    model, x, (_, covariance, evidence) = correlated()
    start = DiagonalGaussian(torch.zeros(1, 2).double(), torch.ones(1, 2).double())
    engine = PosteriorEngine(model, nodes=61)
    base = SimpleNamespace(kept_engine=lambda: engine, infer=lambda x: SimpleNamespace(start=start))
    (found,) = optima.optima(base, x, [0], again=True)
    precision = np.linalg.inv(covariance)
    floor = 0.5 * np.log(precision.diagonal().prod() / np.linalg.det(precision))
    assert floor > 0.1
    assert evidence - found["full"]["elbo"] == pytest.approx(0, abs=1e-4)
    assert evidence - found["diagonal"]["elbo"] == pytest.approx(floor, abs=1e-4)
    assert found["full"]["gain"] < 1e-4 and found["diagonal"]["gain"] < 1e-4
    kept = {"0": found, "1": {family: {"elbo": one["elbo"] - 1, "error": 0.0} for family, one in found.items()}}
    full = optima.summary(kept, [0, 1], np.array([evidence, evidence]))["full"]
    assert full["kl"] == pytest.approx(0.5, abs=1e-4) and full["searched_again"] == 1


def test_a_mean_kl_is_split_where_the_family_has_an_optimum():
    n, floor = {"mean": 3.0}, {"kl": 0.25, "stderr": 0.01}
    assert gap_tables._split(n, floor) == ["0.25 ± 0.0196", "2.75"]
    assert gap_tables._split(n, None) == ["not sought", "not sought"]
