"""Small decoders whose posteriors are known: in closed form, or by their number of modes."""

from itertools import pairwise

import numpy as np
import torch
from scipy.integrate import quad
from scipy.special import ive
from torch import nn

from gpvae_core.generative import GaussianLikelihood, GenerativeModel

STD = float(GaussianLikelihood(0.1).double().std)  # what float32 makes of 0.1: it costs 3e-5 nats here


class Linear(nn.Module):
    """g(z) = A z + a, whose posterior is Gaussian."""

    def __init__(self, seed: int = 0, scale: float = 0.05) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.matrix = nn.Parameter(scale * torch.randn(64, 2, generator=generator).double())
        self.offset = nn.Parameter(torch.rand(64, generator=generator).double())

    def forward(self, z):
        return (z @ self.matrix.T + self.offset).reshape(-1, 1, 8, 8)

    def closed_form(self, x: np.ndarray, std: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Posterior mean and covariance, and log evidence N(x; a, A A' + s^2 I)."""
        a, b = self.matrix.detach().double().numpy(), self.offset.detach().double().numpy()
        residual = x.ravel() - b
        covariance = np.linalg.inv(a.T @ a / std**2 + np.eye(2))
        marginal = a @ a.T + std**2 * np.eye(64)
        evidence = -0.5 * (residual @ np.linalg.solve(marginal, residual) + np.linalg.slogdet(2 * np.pi * marginal)[1])
        return covariance @ a.T @ residual / std**2, covariance, float(evidence)


def correlated() -> tuple[GenerativeModel, torch.Tensor, tuple[np.ndarray, np.ndarray, float]]:
    """A model whose posterior is a correlated Gaussian, an image, and that Gaussian's mean, covariance and evidence."""
    decoder = Linear()
    with torch.no_grad():
        decoder.matrix[:, 1] += 0.8 * decoder.matrix[:, 0]
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return GenerativeModel(decoder, GaussianLikelihood(STD).double()), x, decoder.closed_form(x.numpy(), STD)


class Features(nn.Module):
    """g(z) = features(z_1, z_2): products and squares, so that several latents or a whole curve explain one image."""

    def __init__(self, features) -> None:
        super().__init__()
        self.features = features
        self.scale = nn.Parameter(torch.ones(()).double())

    def forward(self, z):
        values = torch.stack(self.features(z[:, 0], z[:, 1]), -1)
        return self.scale * values.reshape(-1, 1, 1, values.shape[-1])


class Ridge(nn.Module):
    """Two pixels, linear in z: a Gaussian posterior, at pixel noise 0.1 about ``ratio`` times longer than wide."""

    def __init__(self, ratio: float, angle: float) -> None:
        super().__init__()
        c, s = np.cos(angle), np.sin(angle)
        self.matrix = nn.Parameter(torch.tensor([[0.1 * c * ratio, 0.1 * s * ratio], [-0.05 * s, 0.05 * c]]).double())

    def forward(self, z):
        return (z @ self.matrix.T).reshape(-1, 1, 1, 2)

    def log_evidence(self, x: np.ndarray, std: float) -> float:
        """N(x; 0, A A' + s^2 I)."""
        a = self.matrix.detach().numpy()
        marginal = a @ a.T + std**2 * np.eye(2)
        quadratic = x.ravel() @ np.linalg.solve(marginal, x.ravel())
        return float(-0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * marginal)[1]))


def saturated(values: list[torch.Tensor]) -> list[torch.Tensor]:
    """f / sqrt(1 + |f|^2): every hill stands alone, on a plain that the image explains badly."""
    length = torch.sqrt(1 + sum(value**2 for value in values))
    return [value / length for value in values]


def comb(hills: int) -> Features:
    """Equal narrow hills on the circle |z| = 2 for the image of zeros."""

    def features(a, b):
        power = (torch.complex(a, b) / 2) ** hills - 1
        return saturated([power.real, power.imag])

    return Features(features).double()


def comb_log_evidence(hills: int) -> float:
    """Exact up to some std^2: ``hills`` Laplace masses, each of standard deviation 2 std / hills in the plane."""
    return float(np.log(hills) + 2 * np.log(2 / hills) - 2 - np.log(2 * np.pi))


def needle(width: float, centre: tuple[float, float]) -> Features:
    """A hill of any width on the broad one of the prior, for the image of zeros."""
    return Features(lambda a, b: saturated([(a - centre[0]) / width, (b - centre[1]) / width])).double()


def needle_log_evidence(width: float, centre: tuple[float, float], std: float) -> float:
    """By polar coordinates around the centre: the prior's mean over the angle is a Bessel function."""
    far = float(np.hypot(*centre))

    def density(log_radius: float) -> float:
        r = np.exp(log_radius)
        u = (r / width) ** 2
        return float(r * r * np.exp(-0.5 * u / (1 + u) / std**2 - 0.5 * (far - r) ** 2) * ive(0, far * r))

    edges = np.linspace(np.log(width * std) - 20, np.log(12.0), 120)
    total = sum(quad(density, *pair, epsabs=0, epsrel=1e-9)[0] for pair in pairwise(edges))
    return float(np.log(total) - np.log(2 * np.pi * std**2))


FOLDED = {  # number of modes: features and an image with that many explanations
    1: (lambda a, b: [a, b], [0.5, 0.2]),
    2: (lambda a, b: [a**2, b], [1.0, 0.2]),
    3: (lambda a, b: [a**3 - 1.5 * a, b], [0.0, 0.2]),
    4: (lambda a, b: [a**2, b**2], [1.0, 0.5]),
    5: (lambda a, b: [0.3 * a * (a**2 - 1) * (a**2 - 4), b], [0.0, 0.2]),
}
