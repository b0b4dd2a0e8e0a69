"""README's two tables: five findings, each with its number, its command and its page; and the methods."""

from typing import Any

from benchmarks.common import RESULTS
from benchmarks.table_one import hidden, less, spoken
from gpvae_core.files import read_json
from gpvae_core.inference import METHODS

Rows = list[list[str]]
SEARCH = "gn, 4 steps, 4 starts"
TABLE = "python -m benchmarks.paper_tables --data-dir DIR --again --images 10000"


def findings() -> Rows:
    """Five findings on models of MNIST, from benchmarks/results/."""
    hard = read_json(RESULTS / "difficulty-mnist-2d.json")["conditions"]["test"]["scores"]
    encoders = read_json(RESULTS / "exact-gaps-whole.json")["decoders"]["mnist-2d"]
    before, after = encoders["vae"], encoders[SEARCH]
    condition = read_json(RESULTS / "detection.json")["mnist-2d"]["conditions"]["OMNIGLOT"]
    scores = {"Laplace gap": "laplace_gap", "U": "uncertainty"}
    ranks = ", ".join(f"{label} {_rho(hard[name]['kl'])}" for label, name in scores.items())
    return [
        ["finding", "number", "command", "page"],
        [
            f"Mean KL of the VAE's encoder on all {before['images']:,} images, "
            "and after Gauss-Newton steps on the image itself. "
            f"Medians: {before['median']:.1f} and {after['median']:.2f}.",
            f"{before['mean']:.1f} ± {1.96 * before['stderr']:.1f}, {after['mean']:.2f} ± {1.96 * after['stderr']:.2f}",
            f'`python -m benchmarks.gaps_table mnist-2d --data-dir DIR --only vae "{SEARCH}"`',
            "[every method](docs/encoders.md)",
        ],
        [
            "What IWAE-100 hides: nats that two Gauss-Newton steps from the encoder's mean add, "
            "at d = 10 (five seeds), 20 and 50 (three).",
            ", ".join(spoken(*hidden(dim)) for dim in (10, 20, 50)),
            f"`{TABLE} --only vae --dims 10 --seeds 0 1 2 3 4`, then `--dims 20 50 --seeds 0 1 2`",
            "[findings](docs/findings.md)",
        ],
        [
            "IWAE-100, d = 10: what GPVAE gains over a plain VAE, and a VAE by three encoder networks alone.",
            " and ".join(spoken(*less(name, "vae", 10, "iwae")) for name in ("gpvae", "vae-3")),
            f"`{TABLE} --only vae vae-3 gpvae --seeds 0 1 2 3 4`",
            "[findings](docs/findings.md)",
        ],
        [
            "One look at the decoder ranks test images by their KL far better than U, the paper's score: rank "
            "correlation. On foreign images U is as good.",
            ranks,
            "`python -m benchmarks.difficulty mnist-2d --data-dir DIR --images 400`",
            "[difficulty](docs/difficulty.md)",
        ],
        [
            "U tells characters of OMNIGLOT from digits: area under the ROC curve, nothing fitted. So does the "
            f"reconstruction error: {condition['reconstruction_error']['auroc']:.2f}.",
            "{:.2f} [{:.2f}, {:.2f}]".format(condition["uncertainty"]["auroc"], *condition["uncertainty"]["interval"]),
            "`python -m benchmarks.detection mnist-2d mnist-2d-wide --data-dir DIR`",
            "[difficulty](docs/difficulty.md)",
        ],
    ]


def _rho(record: dict[str, Any]) -> str:
    low, high = record["interval"]
    return f"{record['rho']:.2f} [{low:.2f}, {high:.2f}]"


def methods() -> Rows:
    """Every method of the registry, with the paper that it is from."""
    return [["`--method`", "method", "from"], *([f"`{key}`", m.label, m.source] for key, m in METHODS.items())]
