"""The base grid: between its nodes, in 16 bits, on disk."""

import numpy as np
import pytest
import torch
from torch import nn

from gpvae_core.exact import PosteriorEngine
from gpvae_core.exact.between import Between
from gpvae_core.exact.grid import build_grid
from gpvae_core.exact.interpolation import at, filled
from gpvae_core.exact.joint import Decoded
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import GaussianLikelihood
from tests.decoders import needle


def test_interpolation_is_exact_for_polynomials_of_degree_six_and_fills_smoothly(generator):
    i, k = np.meshgrid(np.arange(12.0), np.arange(15.0), indexing="ij")
    field = 1e-4 * (i - 5) ** 6 + (k - 7) ** 2 * (i - 3) - 2 * k
    t = np.random.default_rng(0).uniform([3, 3], [8, 11], (50, 2))
    wanted = 1e-4 * (t[:, 0] - 5) ** 6 + (t[:, 1] - 7) ** 2 * (t[:, 0] - 3) - 2 * t[:, 1]
    np.testing.assert_allclose(at(field, t), wanted, atol=1e-9)
    quadratic = i * k - i**2
    known = (i - 6) ** 2 + (k - 7) ** 2 < 20
    np.testing.assert_allclose(filled(np.where(known, quadratic, 99.0), known), quadratic, atol=1e-9)


def test_between_its_nodes_the_grid_says_nearly_what_decodes_say(digits, digits_2d, digits_engine, generator):
    joint = Decoded(digits_2d.model.generative, digits.test.pixels(slice(0, 4)))
    z = torch.rand(200, 2, generator=generator).double().numpy() * 8 - 4
    owner = np.arange(200) % 4
    said, seen = Between(joint, digits_engine.grid).quadratic(owner, z), joint.quadratic(owner, z)
    worst = [
        np.abs(a - b).reshape(200, -1).max(1) / (1 + np.abs(b).reshape(200, -1).max(1))
        for a, b in zip(said, seen, strict=True)
    ]
    assert (np.quantile(worst, 0.9, axis=1) < [1e-3, 2e-2, 2e-2]).all()


def test_a_hill_that_the_grid_does_not_know_is_climbed_by_decodes():
    model = GenerativeModel(needle(1e-3, (0.62, -0.33)), GaussianLikelihood(0.3).double())
    posterior = PosteriorEngine(model, nodes=91).posterior(
        torch.zeros(1, 1, 1, 2).double(), near=torch.tensor([[0.62, -0.33]])
    )
    assert min(np.abs(mode.location - [0.62, -0.33]).max() for mode in posterior.modes) < 1e-4


def test_a_grid_is_kept_in_16_bits_wholly_or_not_at_all():
    """Means that leave [0, 1] in one corner only: the rest is not rounded either."""
    decoder = nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (1, 2, 3)))
    with torch.no_grad():
        decoder[0].weight.fill_(0.1)
        decoder[0].bias.fill_(0.7)
    for half_width, packed in ((0.5, True), (3.0, False)):
        model = GenerativeModel(decoder, GaussianLikelihood(0.1)).requires_grad_(False)
        grid = build_grid(model, half_width, 31)
        means = model.decode(torch.as_tensor(grid.points).float()).flatten(1)
        assert grid.packed is packed and grid.exact is not packed
        off = float((model.likelihood.mean_of(grid.eta) - means).abs().max())
        assert 1e-6 < off < 1e-5 if packed else off < 1e-6


def test_both_grids_are_read_from_disk_the_second_time(digits, digits_2d, tmp_path, monkeypatch):
    options = {"nodes": 61, "cache": tmp_path}
    first = PosteriorEngine(digits_2d.model.generative, digest="a", **options)
    with monkeypatch.context() as patch:
        decode = GenerativeModel.decode  # one place says what an image looks like, a few whether the grid is of this

        def few(model, z):
            return decode(model, z) if len(z) <= 5 else pytest.fail("the grid is on disk")

        patch.setattr(GenerativeModel, "decode", few)
        second = PosteriorEngine(digits_2d.model.generative, digest="a", **options)
    for one, other in ((first.grid, second.grid), (first.surroundings, second.surroundings)):
        assert torch.equal(one.eta, other.eta) and np.array_equal(one.constant, other.constant)
    (path,) = tmp_path.glob("a-*-61.safetensors")
    assert path.stat().st_size < 0.52 * 4 * first.grid.eta.numel()  # pixel means in 16 bits: half of float32
    path.write_bytes(path.read_bytes()[:1000])
    again = PosteriorEngine(digits_2d.model.generative, digest="a", **options)
    assert torch.equal(first.grid.eta, again.grid.eta)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 64
    path.write_bytes(data)
    again = PosteriorEngine(digits_2d.model.generative, digest="a", **options)
    assert torch.equal(first.grid.eta, again.grid.eta)
    PosteriorEngine(digits_2d.model.generative, digest="b", **options)
    assert len(list(tmp_path.glob("*.safetensors"))) == 4


def test_the_kept_grid_of_the_same_weights_in_another_network_is_not_taken(tmp_path):
    """Weights alone do not make a decoder: another activation has other means everywhere but where they agree."""

    def model(activation: nn.Module) -> GenerativeModel:
        decoder = nn.Sequential(nn.Linear(2, 8), activation, nn.Linear(8, 4), nn.Sigmoid(), nn.Unflatten(1, (1, 2, 2)))
        for weights in decoder.parameters():
            weights.data = torch.linspace(-1, 1, weights.numel()).reshape(weights.shape)
        return GenerativeModel(decoder, GaussianLikelihood(0.5)).requires_grad_(False)

    for activation in (nn.ReLU(), nn.Tanh()):
        engine = PosteriorEngine(model(activation), digest="the same", nodes=31, cache=tmp_path)
        assert torch.equal(engine.grid.eta, build_grid(model(activation), 4.5, 31).eta)
