"""Independent references: plain, slow, float64, and sharing no code with the engine they judge."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize

Array = np.ndarray
LogJoint = Callable[[Array], Array]


def log_joint_of(decoder: torch.nn.Module, log_pixel: Callable[[Array, Array], Array], x: Array) -> LogJoint:
    """log p(x, z) at points (n, 2) by decoding in float64; ``log_pixel(x, mean)`` per pixel."""

    def log_joint(z: Array) -> Array:
        values = []
        for chunk in np.array_split(z, max(1, len(z) // 1000)):
            with torch.no_grad():
                mean = decoder(torch.as_tensor(chunk)).reshape(len(chunk), -1).numpy()
            prior = -0.5 * (chunk**2).sum(1) - np.log(2 * np.pi)
            values.append(log_pixel(x.ravel(), mean).sum(1) + prior)
        return np.concatenate(values)

    return log_joint


def gaussian_pixel(std: float) -> Callable[[Array, Array], Array]:
    return lambda x, mean: -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


def square(centre: Array, half: float, n: int) -> Array:
    """n x n nodes, row-major, of the square centre +- half."""
    a, b = (np.linspace(c - half, c + half, n) for c in centre)
    return np.stack(np.meshgrid(a, b, indexing="ij"), -1).reshape(-1, 2)


def log_integral(log_joint: LogJoint, centre: Array, half: float, n: int) -> float:
    """Trapezoid over a square on whose edge the integrand has vanished, so that all weights are equal."""
    values = log_joint(square(centre, half, n))
    top = values.max()
    return float(top + np.log(np.exp(values - top).sum()) + 2 * np.log(2 * half / (n - 1)))


def find_peak(log_joint: LogJoint, half_width: float = 4.5, n: int = 100) -> Array:
    """The highest point: a grid, then Nelder-Mead from the best of its nodes."""
    z = square(np.zeros(2), half_width, n)
    best = z[np.argsort(-log_joint(z))[:4]]
    results = [
        minimize(lambda p: -log_joint(p[None])[0], start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-7})
        for start in best
    ]
    return min(results, key=lambda r: r.fun).x


def log_evidence(log_joint: LogJoint, drop: float = 26.0, start: float = 0.01, nodes: int = 48) -> tuple[float, float]:
    """log p(x) around the highest peak, and the change when window and resolution last doubled.

    The window widens until its whole edge lies ``drop`` nats below the peak, then the lattice is refined until
    doubling it changes the result by less than 1e-5 nats.
    """
    peak = find_peak(log_joint)
    half = start
    while _edge_height(log_joint, peak, half) > -drop:
        half *= 1.3
    value = log_integral(log_joint, peak, half, nodes)
    for doubled in (2 * nodes, 4 * nodes):
        refined = log_integral(log_joint, peak, half, doubled)
        change, value = abs(refined - value), refined
        if change < 1e-5:
            break
    return value, change


def _edge_height(log_joint: LogJoint, peak: Array, half: float) -> float:
    side = np.linspace(-half, half, 41)
    edge = np.concatenate([np.stack([side, np.full(41, s)], 1) for s in (-half, half)])
    edge = np.concatenate([edge, edge[:, ::-1]]) + peak
    return float(log_joint(edge).max() - log_joint(peak[None])[0])


def elbo_by_hermite(log_joint: LogJoint, mean: Array, std: Array, order: int = 48) -> float:
    """E_q[log p(x,z) - log q(z)] on q's own Gauss-Hermite nodes."""
    x, w = np.polynomial.hermite.hermgauss(order)
    z = np.stack(np.meshgrid(*(m + np.sqrt(2) * s * x for m, s in zip(mean, std, strict=True)), indexing="ij"), -1)
    weight = np.outer(w, w).ravel() / np.pi
    return float(weight @ log_joint(z.reshape(-1, 2)) + np.log(2 * np.pi * np.e * std[0] * std[1]))
