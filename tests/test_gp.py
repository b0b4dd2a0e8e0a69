"""The GP encoder against sampling, against eq. (12) written out with loops, and against its VAE limit."""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.inference import GPEncoder
from gpvae_core.inference.base import Batch
from gpvae_core.inference.bounds import elbo
from gpvae_core.models import ModelConfig, build


@pytest.fixture(params=[16, 70])  # features: less than a block of columns, and one and a part
def lively(request, generator) -> GPEncoder:
    """A double-precision encoder for d = 3 with a Lambda that is far from 0."""
    encoder = build(ModelConfig(latent_dim=3, hidden=request.param, channels=(4, 4, 4)), seed=3).double().encoder
    for weights in (encoder.weights_mean, encoder.weights_std):
        with torch.no_grad():
            for parameter, scale, shift in (
                (weights.relative_mean, 1.0, 0.0),
                (weights.off_diagonal, 0.3, 0.0),
                (weights.log_diagonal, 0.3, -1.0),
            ):
                parameter.copy_(shift + scale * torch.randn(parameter.shape, generator=generator).double())
    return encoder.requires_grad_(False)


@pytest.fixture
def x(generator) -> torch.Tensor:
    return torch.rand(5, 1, 28, 28, generator=generator).double()


def test_block_operations_equal_equation_12_written_out(lively, x):
    q = lively.infer(x, None).q
    b, c = lively.infer(x, None).start.mean, lively.infer(x, None).start.std
    psi_m, psi_s = lively.psi_mean(x), lively.psi_std(x)
    for n in range(5):
        for j in range(3):
            mu, sigma = lively.weights_mean.mean[j], lively.weights_mean.scale_tril[j]
            eta, gamma = lively.weights_std.mean[j], lively.weights_std.scale_tril[j]
            sigma, gamma = sigma @ sigma.T, gamma @ gamma.T
            m = b[n, j] + mu @ psi_m[n]
            v = c[n, j] ** 2 + 2 * (eta @ psi_s[n]) * c[n, j] + psi_m[n] @ sigma @ psi_m[n]
            v = v + psi_s[n] @ (torch.outer(eta, eta) + gamma) @ psi_s[n]
            torch.testing.assert_close(q.mean[n, j], m)
            torch.testing.assert_close(q.std[n, j] ** 2, v)


def sampled_encoders(encoder: GPEncoder, x: torch.Tensor, count: int, generator: torch.Generator) -> DiagonalGaussian:
    """count draws of W, U ~ q(W, U) and the random encoder (8) under each: mean, std (count, B, d)."""
    draws = []
    for weights in (encoder.weights_mean, encoder.weights_std):
        noise = torch.randn(count, *weights.mean.shape, generator=generator).double()
        draws.append(weights.mean + torch.einsum("jpq,njq->njp", weights.scale_tril, noise))
    base = encoder.infer(x, None).start
    mean = base.mean + torch.einsum("njp,bp->nbj", draws[0], encoder.psi_mean(x))
    return DiagonalGaussian(mean, base.std + torch.einsum("njp,bp->nbj", draws[1], encoder.psi_std(x)))


def test_sampling_weights_gives_the_moments_of_equation_12(lively, x, generator):
    count = 50_000
    random = sampled_encoders(lively, x, count, generator)
    z = random.mean + random.std * torch.randn(random.mean.shape, generator=generator).double()
    q = lively.infer(x, None).q
    standard_error = q.std / count**0.5
    assert ((z.mean(0) - q.mean).abs() < 5 * standard_error).all()
    torch.testing.assert_close(z.var(0), q.std**2, rtol=0.03, atol=0)


def test_expected_kl_matches_sampling_weights(lively, x, generator):
    count = 50_000
    random = sampled_encoders(lively, x, count, generator)
    kl = 0.5 * (random.std**2 + random.mean**2 - 1 - torch.log(random.std**2)).sum(-1)
    wanted = lively.correction(x).expected_kl()
    assert ((kl.mean(0) - wanted).abs() < 5 * kl.std(0) / count**0.5).all()


def test_without_lambda_it_is_the_plain_vae(lively, x):
    lively.weights_mean.silence()
    lively.weights_std.silence()
    base = lively.infer(x, None).start
    torch.testing.assert_close(lively.infer(x, None).q.mean, base.mean)
    torch.testing.assert_close(lively.infer(x, None).q.std, base.std)
    torch.testing.assert_close(lively.correction(x).expected_kl(), base.kl_to_prior())
    assert torch.equal(lively.infer(x, None).uncertainty, torch.zeros(5).double())


def test_gradients_stay_finite_without_lambda(lively, x):
    """E log X^2 at s = 0 has a limit; an implementation by log s^2 + infinity has not."""
    lively.weights_mean.silence()
    lively.weights_std.silence()
    lively.base_encoder.requires_grad_(True)
    lively.correction(x).expected_kl().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in lively.base_encoder.parameters())


def test_objective_is_the_elbo_of_the_marginalised_encoder_minus_two_penalties(x):
    """Section 2 of the derivation: both penalties are >= 0, so the objective lies below the ELBO."""
    model = build(ModelConfig(hidden=16, channels=(4, 4, 4)), seed=1).double()
    encoder = model.encoder
    value = encoder.objective(Batch(x, x, 100), model.generative, generator=torch.Generator().manual_seed(5)).value
    q, correction = model.encoder.infer(x, None).q, encoder.correction(x)
    bound = elbo(model.generative, x, q, generator=torch.Generator().manual_seed(5)).mean()
    entropy_penalty = (correction.expected_kl() - q.kl_to_prior()).mean()
    assert entropy_penalty >= 0
    torch.testing.assert_close(value, bound - entropy_penalty - encoder.kl_weights() / 100)


def test_the_kl_of_the_weights_is_torchs(lively):
    wanted = 0.0
    for weights in (lively.weights_mean, lively.weights_std):
        prior = MultivariateNormal(torch.zeros_like(weights.mean), torch.eye(weights.mean.shape[-1]).double())
        wanted += kl_divergence(MultivariateNormal(weights.mean, scale_tril=weights.scale_tril), prior).sum()
    torch.testing.assert_close(lively.kl_weights(), wanted)


def test_uncertainty_is_the_trace_of_both_variances(lively, x):
    psi_m, psi_s = lively.psi_mean(x), lively.psi_std(x)
    tril_m, tril_s = lively.weights_mean.scale_tril, lively.weights_std.scale_tril
    sigma, gamma = (tril_m @ tril_m.mT).sum(0), (tril_s @ tril_s.mT).sum(0)
    wanted = torch.einsum("bp,pq,bq->b", psi_m, sigma, psi_m) + torch.einsum("bp,pq,bq->b", psi_s, gamma, psi_s)
    torch.testing.assert_close(lively.infer(x, None).uncertainty, wanted)


def test_starting_from_a_vae_keeps_its_posterior_mean(x):
    vae = build(ModelConfig(method="vae"), seed=1).double()
    gp = build(ModelConfig(method="gpvae"), seed=2).double()
    gp.encoder.start_from(vae.encoder, x, 1000)
    torch.testing.assert_close(gp.encoder.infer(x, None).start.mean, vae.encoder.infer(x, None).q.mean)
    torch.testing.assert_close(gp.encoder.infer(x, None).q.mean, vae.encoder.infer(x, None).q.mean)
    correction = gp.encoder.correction(x)
    expected = 256 / 1000 * (correction.base.std**2).mean(0)  # the leverage p/N of each observation
    torch.testing.assert_close(correction.var_f.mean(0), expected)
    torch.testing.assert_close(correction.var_h.mean(0), expected)
