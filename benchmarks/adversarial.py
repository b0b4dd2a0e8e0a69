"""Decoders made to mislead the exact posterior: its errors, what it says of them, decodes and seconds.

    python -m benchmarks.adversarial

Each log p(x) is compared with a closed form, a one-dimensional integral or brute force in float64 (tests/reference.py),
and so are mean, covariance and negentropy where brute force reaches. A row is quiet and wrong where an error exceeds
both what is reported and its tolerance: 1e-3 nats, 1e-3 standard deviations of a mean, 5e-3 of a variance. Writes
benchmarks/results/adversarial.json.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.common import command, counting, hardware, markdown, store_result, told
from gpvae_core.exact import ExactPosterior, PosteriorEngine
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import BernoulliLikelihood, GaussianLikelihood
from tests import reference
from tests.decoders import FOLDED, Features, Ridge, comb, comb_log_evidence, needle, needle_log_evidence

CENTRE = (0.7, -0.4)
TOLERANCE = 1e-3  # nats


@dataclass(frozen=True)
class Case:
    """A model, its image (1, C, H, W), log p(x) and how far that may itself be off, and places to look at."""

    name: str
    model: GenerativeModel
    image: torch.Tensor
    log_evidence: float
    uncertainty: float = 0.0
    near: torch.Tensor | None = None
    nodes: int = 181
    box: reference.Box | None = None  # where brute force finds the moments


def gaussian(decoder: nn.Module, std: float) -> GenerativeModel:
    """The decoder in float64 with pixel noise ``std``."""
    return GenerativeModel(decoder.double(), GaussianLikelihood(std).double())


def zeros(pixels: int = 2) -> torch.Tensor:
    return torch.zeros(1, 1, 1, pixels).double()


def by_brute_force(name: str, model: GenerativeModel, image: torch.Tensor, half: float = 6.5) -> Case:
    """Truth by a midpoint rule over the box, refined until it settles."""
    log_joint = reference.log_joint_for(model, image)
    box = [reference.square(np.zeros(2), half)]
    value, change = reference.log_evidence(log_joint, box, half / 200, tolerance=1e-5, most=4)
    return Case(name, model, image, value, change, box=box[0])


def ridges() -> Iterator[Case]:
    for ratio in (30, 300, 1e6):
        model = gaussian(Ridge(ratio, 0.7), 0.1)
        x = model.decode(torch.tensor([[0.5, -1.2]]).double()).detach()
        truth = model.decoder.log_evidence(x.numpy(), float(model.likelihood.std))
        yield Case(f"linear, deviations {ratio:g} : 1", model, x, truth)


def hills() -> Iterator[Case]:
    for modes, (features, target) in FOLDED.items():
        image = torch.tensor(target).double().reshape(1, 1, 1, 2)
        yield by_brute_force(f"{modes} modes", gaussian(Features(features), 0.05), image)
    far = Features(lambda a, b: [a**2 / 6, b])
    yield by_brute_force(
        "two modes outside the box", gaussian(far, 0.3), torch.tensor([6.0, 0.2]).double().reshape(1, 1, 1, 2), 12.0
    )
    for count in (12, 16, 25):
        yield Case(f"{count} narrow hills", gaussian(comb(count), 0.005), zeros(), comb_log_evidence(count), 2e-4)


def rings() -> Iterator[Case]:
    for std in (0.1, 0.02):
        model = gaussian(Features(lambda a, b: [a**2 + b**2]), std)
        # r dr: log p(x) = log int exp(-t / 2) N(2; t, s^2) dt / 2 over t = r^2 > 0, whose mass is all inside
        truth = -np.log(2) - 1 + 0.125 * float(model.likelihood.std) ** 2
        yield Case(f"ring, s_x {std:g}", model, torch.full((1, 1, 1, 1), 2.0).double(), float(truth))


def kinks() -> Iterator[Case]:
    relu = gaussian(Features(lambda a, b: [torch.relu(10 * a), b]), 0.3)
    yield by_brute_force("relu(10 z_1)", relu, torch.tensor([0.4, 0.1]).double().reshape(1, 1, 1, 2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 36), nn.Sigmoid(), nn.Unflatten(1, (1, 6, 6))
        )
        image = torch.bernoulli(torch.full((1, 1, 6, 6), 0.5), generator=torch.Generator().manual_seed(0)).double()
    yield by_brute_force("small ReLU net", gaussian(network, 0.3), image)
    steep = nn.Sequential(Features(lambda a, b: [40 * a, 40 * b, 40 * (a + b)]).double(), nn.Sigmoid())
    model = GenerativeModel(steep, BernoulliLikelihood())
    yield by_brute_force("saturated Bernoulli", model, torch.tensor([1.0, 0.0, 1.0]).double().reshape(1, 1, 1, 3), 8.0)


def needles() -> Iterator[Case]:
    near = torch.tensor([CENTRE])
    for std in (0.3, 0.2):
        for width in (0.03, 0.01, 1e-3):
            model = gaussian(needle(width, CENTRE), std)
            truth = needle_log_evidence(width, CENTRE, float(model.likelihood.std))
            yield Case(f"needle {width:g}, s_x {std:g}", model, zeros(), truth, near=near)


class Photo(nn.Module):
    """A linear decoder of 3 x 64 x 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        matrix = 0.05 * torch.randn(3 * 64 * 64, 2, generator=torch.Generator().manual_seed(0))
        self.matrix = nn.Parameter(matrix, requires_grad=False)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (z @ self.matrix.T).reshape(-1, 3, 64, 64)


def photos() -> Iterator[Case]:
    """Truth by Woodbury's identity for N(x; 0, A A' + s^2 I)."""
    model = GenerativeModel(Photo(), GaussianLikelihood(0.2))
    image = model.simulate(1, generator=torch.Generator().manual_seed(1)).images
    a, x = model.decoder.matrix.double().numpy(), image.double().numpy().ravel()
    variance = float(torch.exp(2 * model.likelihood.log_std.double()))
    inner = np.eye(2) + a.T @ a / variance
    projected = a.T @ x / variance
    quadratic = x @ x / variance - projected @ np.linalg.solve(inner, projected)
    truth = -0.5 * (quadratic + np.linalg.slogdet(inner)[1] + len(x) * np.log(2 * np.pi * variance))
    yield Case("linear, 3 x 64 x 64, float32", model, image, float(truth), nodes=91)


def measured(case: Case) -> dict[str, object]:
    """Errors, decodes and seconds of one case."""
    engine = PosteriorEngine(case.model, nodes=case.nodes)
    sizes = counting(engine.model)  # of a model in training mode the engine takes a copy
    start = time.perf_counter()
    posterior = engine.posterior(case.image, near=case.near)
    seconds = time.perf_counter() - start
    error, reported = abs(posterior.log_evidence - case.log_evidence), posterior.log_evidence_error
    decodes = sum(sizes)
    moments = _moments(case, posterior)
    return {
        "case": case.name,
        "error": error,
        "uncertainty_of_truth": case.uncertainty,
        "reported": reported,
        "quiet_and_wrong": bool(error > max(reported, TOLERANCE) + case.uncertainty) or _misleads(moments),
        "modes": len(posterior.modes),
        "decodes": decodes,
        "seconds": round(seconds, 2),
        "moments": moments,
    }


def _moments(case: Case, posterior: ExactPosterior) -> dict[str, tuple[float, float, float]]:
    """Error, what is reported, and tolerance: of the mean in standard deviations, a variance's share, a negentropy."""
    if case.box is None:
        return {}
    mean, covariance, _, negentropy = reference.moments(reference.log_joint_for(case.model, case.image), case.box)
    variance = np.diag(covariance)
    std, found = np.sqrt(variance), np.diag(posterior.covariance)
    return {
        "mean": (_most((posterior.mean - mean) / std), _most(posterior.mean_error / std), 1e-3),
        "variance": (_most(found / variance - 1), _most(np.diag(posterior.covariance_error) / variance), 5e-3),
        "negentropy": (abs(posterior.negentropy - negentropy), posterior.negentropy_error, TOLERANCE),
    }


def _most(values: np.ndarray) -> float:
    return float(np.abs(values).max())


def _misleads(moments: dict[str, tuple[float, float, float]]) -> bool:
    return any(error > max(reported, tolerance) for error, reported, tolerance in moments.values())


FAMILIES: list[Callable[[], Iterator[Case]]] = [ridges, hills, rings, needles, photos, kinks]


def main() -> None:
    rows = [measured(case) for family in FAMILIES for case in family()]
    keys = ("case", "error", "reported", "modes", "decodes", "seconds")
    print(
        markdown(
            [
                list(keys),
                *[[f"{row[k]:.3g}" if isinstance(row[k], float) else str(row[k]) for k in keys] for row in rows],
            ]
        )
    )
    report = {"command": command("adversarial", None), "hardware": hardware(), "rows": rows}
    store_result("adversarial.json", report)


if __name__ == "__main__":
    told(main)
