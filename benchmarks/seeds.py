"""GPVAE against the plain and the three-trunk VAE of equal budget, several seeds, exact KLs in nats.

    python -m benchmarks.seeds --data-dir DIR [--regimes trained fixed bernoulli] [--schedules early late]

Trains what runs/seeds/ lacks, and goes on where it was killed, 16 epochs a model in two stages: "early" 4 and 12 at a
learning rate of 2e-3, "late" 12 at 2e-3 and 4 at 5e-4. GPVAE (gpvae-shared) takes the second stage from the plain VAE
that the first trained, "gpvae-base" with the ELBO of the base encoder in its objective; "settled" puts a GP on the
plain VAE of all 16 epochs and settles it. Then log p(x), both KLs and IWAE-100 of the same test images, spread evenly;
results go into benchmarks/results/seeds.json, with the differences to the plain and to the three-trunk VAE of the same
seed: over images (mean +- 1.96 standard errors) and over seeds (Student's interval).
"""

import argparse
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.claims import Table, gaps, mean, summary
from benchmarks.common import command, evenly, hardware, store_part, student, told
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import dataset_of
from gpvae_core.identity import STATE
from gpvae_core.paths import WEIGHTS, data_folder

RUNS = Path("runs/seeds")
REGIMES = {
    "trained": ["--dataset", "mnist"],
    "fixed": ["--dataset", "mnist", "--s-x", "1"],
    "bernoulli": ["--dataset", "binary-mnist"],
}
SCHEDULES = {  # both stages, each its own one-cycle
    "early": (["--epochs", "4"], ["--epochs", "12"]),
    "late": (["--epochs", "12"], ["--epochs", "4", "--learning-rate", "5e-4"]),
}
METHODS = {  # in the first stage, and in the second
    "vae": ("vae", ["--method", "vae"]),
    "vae-3": ("vae-3", ["--method", "vae-3"]),
    "gpvae": ("vae", ["--method", "gpvae-shared"]),
    "gpvae-base": ("vae", ["--method", "gpvae-shared", "--base-weight", "1"]),
}
SETTLED = "settled"
CONTROLS = ("vae", "vae-3")


def train(name: str, flags: list[str], data_dir: Path) -> Path:
    """Train runs/seeds/NAME to its last epoch, from where it stands."""
    out = RUNS / name
    resume = ["--resume"] if (out / STATE).exists() else []
    fixed = ["--encoder-noise", "0.1", "--data-dir", str(data_dir), "--out", str(out)]
    command_line("train", *flags, *fixed, *resume)
    return out


def command_line(*words: str) -> None:
    """Run one of the library's commands."""
    subprocess.run([sys.executable, "-m", "gpvae_core", *words], check=True)


def made(regime: str, schedule: str, method: str, seed: int, data_dir: Path) -> Path:
    """The folder of one model, trained or settled."""
    if method != SETTLED:
        return trained(regime, schedule, method, seed, data_dir)
    plain, out = trained(regime, schedule, "vae", seed, data_dir), RUNS / f"{regime}-{schedule}-{SETTLED}-{seed}"
    if not (out / WEIGHTS).exists():
        command_line("settle", "--checkpoint", str(plain), "--data-dir", str(data_dir), "--out", str(out))
    return out


def trained(regime: str, schedule: str, method: str, seed: int, data_dir: Path) -> Path:
    """The folder of one model, all its stages trained."""
    common = [*REGIMES[regime], "--seed", str(seed)]
    (before, after), (first, last) = METHODS[method], SCHEDULES[schedule]
    start = train(f"{regime}-{schedule}-{before}-{seed}-first", ["--method", before, *first, *common], data_dir)
    return train(f"{regime}-{schedule}-{method}-{seed}", [*after, "--init", str(start), *last, *common], data_dir)


def measured(folder: Path, data_dir: Path, images: int, tolerance: float) -> Table:
    """The gaps of ``images`` test images, computed once for each file of weights."""
    checkpoint = load_checkpoint(folder)
    kept = RUNS / f"{folder.name}-{checkpoint.digest[:12]}-{images}-{tolerance:g}.npz"
    if not kept.exists():
        test = dataset_of(checkpoint, None, data_dir).test
        engine = checkpoint.engine(tolerance=tolerance)
        np.savez(kept, **gaps(checkpoint, engine, test.take(evenly(len(test), images))))
    with np.load(kept) as file:
        table = dict(file)
    return table | {"elbo": table["log_evidence"] - table["kl_marginal"]}


def over_seeds(differences: list[np.ndarray]) -> dict[str, object]:
    """A paired difference: its mean over the images of each seed, and over seeds with Student's interval."""
    means = [float(difference.mean()) for difference in differences]
    record: dict[str, object] = {"seeds": [mean(difference) for difference in differences]}
    if len(means) > 1:
        record["mean"] = [round(number, 4) for number in student(means)]
    return record


def compare(tables: dict[str, list[Table]]) -> dict[str, object]:
    """How far each model's KL and evidence lie above the controls' of its seed, and a GP's KL above its own base's."""
    record: dict[str, object] = {}
    for method, own in tables.items():
        for control in (c for c in CONTROLS if c in tables and c != method):
            pairs = list(zip(own, tables[control], strict=True))
            for what in ("kl_marginal", "log_evidence", "elbo", "iwae"):
                record[f"{what}: {method} - {control}"] = over_seeds([a[what] - b[what] for a, b in pairs])
        if method not in CONTROLS:
            record[f"{method}: kl_marginal - kl_base"] = over_seeds([t["kl_marginal"] - t["kl_base"] for t in own])
    return record


def main() -> None:
    """Train, measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=list(SCHEDULES))
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, SETTLED], default=[*METHODS, SETTLED])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--tolerance", type=float, default=1e-2, help="of log p(x), in nats")
    arguments = parser.parse_args()
    data_dir = arguments.data_dir or data_folder()
    header = {"command": command("seeds", arguments.data_dir), "hardware": hardware()}
    for regime, schedule in product(arguments.regimes, arguments.schedules):
        tables: dict[str, list[Table]] = {method: [] for method in arguments.methods}
        for seed, (method, rows) in product(arguments.seeds, tables.items()):
            folder = made(regime, schedule, method, seed, data_dir)
            rows.append(measured(folder, data_dir, arguments.images, arguments.tolerance))
        models = {method: [summary(table) for table in rows] for method, rows in tables.items()}
        record = header | {"seeds": arguments.seeds, "models": models, "differences": compare(tables)}
        store_part("seeds.json", f"{regime}, {schedule}, {' '.join(map(str, arguments.seeds))}", record)


if __name__ == "__main__":
    told(main)
