"""What is said of a q without the truth, where it is known what should be said."""

import numpy as np
import pytest
import torch

from benchmarks import referee
from gpvae_core.distributions import FullGaussian
from tests.decoders import correlated


def test_the_exact_posterior_gives_every_judge_what_it_wants():
    model, x, (mean, covariance, evidence) = correlated()
    frame = torch.as_tensor(np.linalg.cholesky(covariance))[None]
    exact = FullGaussian(torch.as_tensor(mean)[None], frame)
    (said,) = referee.judged(referee.log_weights(model, x, exact, 0))
    assert said["draws"] == pytest.approx(1000) and said["bound"] == pytest.approx(0, abs=1e-6)
    assert said["iwae"] == pytest.approx(evidence, abs=1e-6)
    narrow = FullGaussian(exact.mean, 0.3 * frame)
    (worse,) = referee.judged(referee.log_weights(model, x, narrow, 0))
    assert worse["k"] > referee.LIMIT and worse["draws"] < said["draws"] and worse["bound"] > 0.1


def test_misses_and_false_alarms_are_counted():
    kl = np.array([0.05, 0.05, 0.5, 2.0, 3.0])
    found = referee.errors_of("k", np.array([0.3, 0.9, 0.8, 0.6, 1.2]), kl)
    assert (found["missed"], found["far"], found["false_alarms"], found["near"]) == (1, 2, 1, 2)
    assert found["worst_trusted"] == 2.0
    found = referee.errors_of("draws", np.array([900.0, 800.0, 500.0, 150.0, 2.0]), kl)
    assert (found["missed"], found["false_alarms"]) == (1, 0) and found["spearman"] > 0.9


def test_what_is_judged_first_is_spread_over_the_test_set():
    order = referee.order(37)
    assert sorted(order) == list(range(37)) and list(order[:4]) == [0, 10, 20, 30]
