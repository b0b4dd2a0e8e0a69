"""Whether autoregressive flows can hold two separate hills: fitted to one two-moons density by KL(q || p).

    python -m benchmarks.two_moons [--flows 1 2 4 8] [--seeds 0 1 2]

log p(z) = -((|z| - 2) / 0.4)^2 / 2 + log(exp(-((z_1 - 2) / 0.6)^2 / 2) + exp(-((z_1 + 2) / 0.6)^2 / 2)) - log Z, the
first test density of Rezende & Mohamed (2015), with log Z by the trapezoidal rule. "tempered": q begins three times as
wide, and log p counts a hundredth at first and wholly from three fifths of the steps on. Writes
benchmarks/results/two-moons.json.
"""

import argparse
import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import command, hardware, store_result, told
from gpvae_core.distributions import Posterior
from gpvae_core.inference import METHODS

STEPS, BATCH, RATE, CLIP = 6000, 512, 3e-3, 10.0
HELD, WIDE, FIRST, WHOLE = 0.6, 3.0, 0.01, 0.6
DRAWS = 40_000
REACH, NODES = 6.0, 2001


def moons(z: Tensor) -> Tensor:
    """log p(z) but for its constant, (...) for z (..., 2)."""
    right, left = (-0.5 * ((z[..., 0] - middle) / 0.6) ** 2 for middle in (2, -2))
    return -0.5 * ((z.norm(dim=-1) - 2) / 0.4) ** 2 + torch.logaddexp(right, left)


def log_constant() -> float:
    """log Z."""
    axis = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)
    plane = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    return float(moons(plane).flatten().logsumexp(0) + 2 * math.log(2 * REACH / (NODES - 1)))


def fitted(flows: int, seed: int, *, tempered: bool, steps: int = STEPS) -> Posterior:
    """q after ``steps`` of Adam on draws of E_q[log q - log p]; the encoder always sees the same number."""
    kind = METHODS["iaf"].encoder
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        encoder = kind(nn.Flatten, 1, 2, kind.Options(flows=flows))
    x, generator = torch.ones(1, 1, 1, 1), torch.Generator().manual_seed(seed)
    if tempered:
        with torch.no_grad():
            encoder.amortized.head.bias[2:] += math.log(WIDE)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=RATE)
    for step in range(steps):
        share = step / steps
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * max(0, share - HELD) / (1 - HELD)))
        factor = min(1.0, FIRST + share / WHOLE) if tempered else 1.0
        z, log_q = encoder.infer(x, None).q.rsample_with_log_prob(BATCH, generator=generator)
        optimizer.zero_grad()
        (log_q - factor * moons(z)).mean().backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), CLIP)
        optimizer.step()
    with torch.no_grad():
        q: Posterior = encoder.infer(x, None).q
    return q


@torch.no_grad()
def kl(q: Posterior, log_z: float) -> tuple[float, float, float]:
    """KL(q || p) in nats from DRAWS of q, its standard error, and the share of the draws on the right moon."""
    z, log_q = q.rsample_with_log_prob(DRAWS, generator=torch.Generator().manual_seed(DRAWS))
    differences = log_q - moons(z) + log_z
    right = (z[..., 0] > 0).double().mean()
    return float(differences.mean()), float(differences.std() / DRAWS**0.5), float(right)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    log_z, rows = log_constant(), list[dict[str, Any]]()
    for flows in given.flows:
        for tempered in (False, True):
            for seed in given.seeds:
                value, error, right = kl(fitted(flows, seed, tempered=tempered), log_z)
                rows.append({"flows": flows, "tempered": tempered, "seed": seed, "kl": value, "stderr": error})
                rows[-1] |= {"right": right}
                print(f"{flows} flows, tempered {tempered}, seed {seed}: {value:.4f} +- {error:.4f}, {right:.2f} right")
    store_result("two-moons.json", {"command": command("two_moons", None), "hardware": hardware(), "rows": rows})


if __name__ == "__main__":
    told(main)
