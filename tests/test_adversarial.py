"""Decoders made to mislead the engine: flat ridges, many narrow hills, vanishing Jacobians, hills of unequal width."""

import pytest
import torch

from gpvae_core.generative import GenerativeModel
from gpvae_core.likelihoods import GaussianLikelihood
from gpvae_core.posterior import PosteriorEngine
from tests.decoders import STD, Ridge


@pytest.mark.parametrize("ratio", [30, 3e2, 3e4, 1e6])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
def test_one_gaussian_has_one_mode_however_long_it_is(ratio, angle):
    model = GenerativeModel(Ridge(ratio, angle), GaussianLikelihood(0.1).double())
    x = model.decode(torch.tensor([[0.5, -1.2]]).double()).detach()
    posterior = PosteriorEngine(model, nodes=91).posterior(x)
    assert len(posterior.modes) == 1
    wanted = model.decoder.log_evidence(x.numpy(), STD)
    assert abs(posterior.log_evidence - wanted) <= min(1e-5, posterior.log_evidence_error)
