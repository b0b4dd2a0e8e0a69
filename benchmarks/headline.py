"""README's two tables: five findings, each with its number, its command and its page; and the methods."""

from typing import Any

import numpy as np

from benchmarks.common import RESULTS
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.files import read_json
from gpvae_core.inference import METHODS
from gpvae_core.paths import MANIFEST

Rows = list[list[str]]
SEEDS = "trained, early, 0 1 2"  # of results/seeds.json


def findings() -> Rows:
    """Five findings on `mnist-2d` and its controls, from the test table and benchmarks/results/."""
    seeds = read_json(RESULTS / "seeds.json")[SEEDS]["differences"]
    hard = read_json(RESULTS / "difficulty-mnist-2d.json")["conditions"]["test"]["scores"]
    foreign = read_json(RESULTS / "detection.json")["mnist-2d"]["conditions"]["OMNIGLOT"]["uncertainty"]
    encoders = read_json(RESULTS / "exact-gaps-mnist-2d.json")
    before, after = encoders["vae"], encoders["gn, 4 steps, 4 starts"]
    scores = {"Laplace gap": "laplace_gap", "U": "uncertainty"}
    ranks = ", ".join(f"{label} {_rho(hard[name]['kl'])}" for label, name in scores.items())
    return [
        ["finding", "number", "command", "page"],
        [
            "The encoder's whole gap, `mnist-2d`, all test images: mean KL to the exact posterior, in nats.",
            _gap("mnist-2d"),
            "`python -m gpvae_core gaps --checkpoint mnist-2d --out gaps.parquet`",
            "[models](docs/models.md)",
        ],
        [
            "Gauss-Newton steps on the image itself close most of it: mean KL on the first 1,000, before and after.",
            f"{before['mean']:.1f} ± {1.96 * before['stderr']:.1f}, {after['mean']:.2f} ± {1.96 * after['stderr']:.2f}",
            "`python -m benchmarks.exact_gaps mnist-2d --data-dir DIR --images 1000`",
            "[every method](docs/encoders.md)",
        ],
        [
            "GPVAE, trained: its mean KL less the plain VAE's, three seeds of 16 epochs. Not beyond chance.",
            _paired(seeds["kl_marginal: gpvae - vae"]),
            "`python -m benchmarks.seeds --data-dir DIR`",
            "[findings](docs/findings.md)",
        ],
        [
            "One look at the decoder ranks images by their KL far better than U, the paper's score: rank correlation.",
            ranks,
            "`python -m benchmarks.difficulty mnist-2d --data-dir DIR --images 400`",
            "[difficulty](docs/difficulty.md)",
        ],
        [
            "U tells characters of OMNIGLOT from digits: area under the ROC curve, nothing fitted.",
            f"{foreign['auroc']:.2f} [{foreign['interval'][0]:.2f}, {foreign['interval'][1]:.2f}]",
            "`python -m benchmarks.detection mnist-2d mnist-2d-wide --data-dir DIR`",
            "[difficulty](docs/difficulty.md)",
        ],
    ]


def _rho(record: dict[str, Any]) -> str:
    low, high = record["interval"]
    return f"{record['rho']:.2f} [{low:.2f}, {high:.2f}]"


def _paired(record: dict[str, Any]) -> str:
    """Over seeds: mean and half of Student's 95 % interval."""
    mean, half = record["mean"]
    digits = 4 if half < 0.01 else 2
    return f"{mean:+.{digits}f} ± {half:.{digits}f}"


def _gap(name: str) -> str:
    entry = read_json(MANIFEST)[name]
    kl = stored_columns(load_checkpoint(name), entry["dataset"], entry["test"]["images"])["kl_base"]
    return f"{kl.mean():.1f} ± {1.96 * kl.std() / len(kl) ** 0.5:.1f}, median {np.median(kl):.1f}"


def methods() -> Rows:
    """Every method of the registry, with the paper that it is from."""
    return [["`--method`", "method", "from"], *([f"`{key}`", m.label, m.source] for key, m in METHODS.items())]
