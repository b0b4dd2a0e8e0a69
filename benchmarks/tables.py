"""The tables of README and docs/: what was measured, from benchmarks/results/ and the test tables in pretrained/.

python -m benchmarks.tables
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import table_three, training
from benchmarks.card import shipped, thirds, zoo
from benchmarks.common import RESULTS, markdown, told
from benchmarks.engine_tables import exactness, gpu_speed, load, on_a_gpu, served, shortcuts, speed
from benchmarks.gap_tables import (
    exact_gaps,
    floor,
    judges,
    optima,
    over_seeds,
    proposals,
    referee,
    shortfall,
    two_moons,
    whole,
)
from benchmarks.headline import findings, methods
from benchmarks.table_one import capacity, refined, table_one
from gpvae_core.diagnostics.statistics import partial_spearman, spearman
from gpvae_core.diagnostics.stored import Columns
from gpvae_core.files import read_json

Rows = list[list[str]]
RECIPES = {  # of results/claims.json
    "gp-scratch-0": "the paper's: all from the start, three trunks; 16 epochs",
    "gp-then-0": "VAE, then all, three trunks; V(f) began at 3e-4",
    "gp-shared-0": "VAE, then all, the base's own trunk; V(f) began at p/N",
    "gp-held-0": "VAE, then its GP alone on 5,000 validation images",
    "mnist-gp": "VAE of 4 epochs, then all",
    "mnist-more": "VAE of 4 epochs, then all, with base term",
    "mnist-2d": "`mnist-2d`: VAE, settled GP",
    "binary-mnist-2d": "`binary-mnist-2d`: Bernoulli pixels, VAE, settled GP",
    "wide-early": "s_x = 1: VAE of 4 epochs, then all, with base term",
    "mnist-2d-wide": "`mnist-2d-wide`: s_x = 1, VAE, settled GP",
}
SETTLED = {  # of results/settling.json: the runs
    "digits-2d": "digits, GP from epoch 81 on",
    "bin-shared-0": "MNIST, Bernoulli, GP from epoch 41 on",
    "omni-shared-0": "OMNIGLOT, GP from epoch 61 on",
    "mnist-more": "MNIST, GP from epoch 5 on, with base term",
    "wide-early": "MNIST, s_x = 1, GP from epoch 5 on, with base term",
}
SCORES = {  # of results/difficulty-mnist-2d.json
    "uncertainty": "U(x), the paper's",
    "relative_uncertainty": "U(x) / q's variance",
    "log_width": "q's width, log det v",
    "reconstruction_error": "reconstruction error",
    "residual, 1 draws": "natural-gradient residual, 1 draw",
    "residual, 16 draws": "the same, 16 draws",
    "residual, 128 draws": "the same, 128 draws",
    "laplace_gap": "**Laplace gap**, one decode, nothing fitted",
    "corrected_gap": "**corrected Laplace gap**, one decode",
    "predicted_gap": "**predicted gap**, encoder alone",
}
METHODS = {  # of results/seeds.json
    "vae": "plain VAE",
    "vae-3": "VAE with three trunks",
    "gpvae": "GPVAE",
    "gpvae-base": "GPVAE with base term",
    "settled": "the plain VAE, GP settled on it",
}
TARGETS = {"kl_marginal": "KL", "negentropy": "negentropy", "reconstruction_error": "reconstruction error"}
DETECTORS = (
    "uncertainty",
    "relative_uncertainty",
    "log_width",
    "reconstruction_error",
    "predicted_gap",
    "corrected_gap",
)
SHIFTED = ("rotated by 40 degrees", "covered by 10 pixels", "noise of 0.3", "OMNIGLOT")


def uncertainty() -> Rows:
    """Is an image of large U hard, non-Gaussian, badly reconstructed? One shipped model a row."""
    correlations = [f"rho with {label}; given width" for label in TARGETS.values()]
    rows = [["model", "median KL by thirds of U", "median negentropy", *correlations]]
    for name, _, columns in shipped():
        rows.append(
            [
                f"`{name}`",
                *(_medians(columns, target) for target in ("kl_marginal", "negentropy")),
                *(_correlation(columns, target) for target in TARGETS),
            ]
        )
    return rows


def _medians(columns: Columns, target: str) -> str:
    return ", ".join(f"{median:.2g}" if median < 0.1 else f"{median:.2f}" for median in thirds(columns, target))


def _correlation(columns: Columns, target: str) -> str:
    score, values = columns["uncertainty"], columns[target]
    return f"{spearman(score, values):+.2f}; {partial_spearman(score, values, columns['log_width']):+.2f}"


def settled() -> Rows:
    """What U says as trained, with the covariances at their optimum, and on unit features, at their optimum too."""
    correlations = [f"rho of U with {label}; given width" for label in TARGETS.values()]
    rows = [["as trained → settled → settled on unit features", "V(f) / v", *correlations]]
    found = read("settling")
    for name, label in SETTLED.items():
        ways = [found[name][way] for way in ("trained", "settled", "unit")]
        row = [label, " → ".join(f"{way['var_f_over_q_variance']:.2g}" for way in ways)]
        rows.append([*row, *(" → ".join(_rank(way[target]) for way in ways) for target in TARGETS)])
    return rows


def _rank(record: dict[str, float]) -> str:
    return f"{record['rho']:+.2f}; {record['partial']:+.2f}"


def seeds() -> Rows:
    """GPVAE against its controls, means over seeds, one method a row."""
    head = ["s_x, schedule, seeds", "method", "log p(x)", "ELBO", "IWAE-100", "KL of base", "KL, marginalised"]
    rows = [[*head, "less the plain VAE's"]]
    for name, record in read("seeds").items():
        for method, runs in record["models"].items():
            means = [
                _over(runs, lambda run: run["log_evidence"][0]),
                _over(runs, lambda run: run["elbo_marginal"][0]),
                _over(runs, lambda run: run["log_evidence"][0] + run["iwae_less_log_evidence"][0]),
                _over(runs, lambda run: run["kl_base"]["mean"][0]),
                _over(runs, lambda run: run["kl_marginal"]["mean"][0]),
            ]
            difference = record["differences"].get(f"kl_marginal: {method} - vae")
            rows.append([name, METHODS[method], *means, _difference(difference) if difference else ""])
    return rows


def _over(runs: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> str:
    return f"{np.mean([value(run) for run in runs]):.2f}"


def _difference(record: dict[str, Any]) -> str:
    """Over seeds where there are several, else over images."""
    value, half = record.get("mean", record["seeds"][0])
    digits = 4 if half < 0.01 else 2
    return f"{value:+.{digits}f} ± {half:.{digits}f}"


def claims() -> Rows:
    """One recipe a row: what it gains, and whether f is the error."""
    found = read("claims")
    held = "95 % region holds, base / marginalised"
    explained = "share of (m* - b)² explained"
    head = ["recipe", "log p(x)", "KL of base: mean, median", "gain by marginalising", "made worse", "V(f) / v"]
    return [[*head, explained, held], *(_claim(label, found[name]) for name, label in RECIPES.items())]


def _claim(label: str, record: dict[str, Any]) -> list[str]:
    test, base = record["test"], record["test"]["kl_base"]
    row = [label, f"{test['log_evidence'][0]:.1f}", f"{_short(base['mean'][0])}, {_short(base['median'])}"]
    if "error" in record:
        gain, half = test["gain"]
        digits = 4 if half < 1e-3 else 3
        row += [f"{gain:.{digits}f} ± {half:.{digits}f}", f"{test['made_worse']:.0%}".replace("%", " %")]
        row += [f"{record['var_f_over_q_variance'][0]:.2g}", f"{record['error']['f']['r_squared'] + 0.0:.5f}"]
    else:
        row += [""] * 4
    shares = [f"{record['coverage'][q]['95%']:.0%}".rstrip("%") for q in ("base", "marginal")]
    return [*row, " / ".join(shares) + " %"]


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}"


def difficulty() -> Rows:
    """Each score's rank correlation with the exact KL, in and out of distribution."""
    found = read("difficulty-mnist-2d")["conditions"]
    rows = [["score", "KL, test", "given width", "negentropy, test", *SHIFTED]]
    for name, label in SCORES.items():
        test = found["test"]["scores"][name]
        kl = test["kl"]
        row = [label, f"{kl['rho']:+.2f} [{kl['interval'][0]:+.2f}, {kl['interval'][1]:+.2f}]"]
        row += ["" if kl["partial"] is None else f"{kl['partial']:+.2f}", f"{test['negentropy']['rho']:+.2f}"]
        rows.append(row + [f"{found[shift]['scores'][name]['kl']['rho']:+.2f}" for shift in SHIFTED])
    return rows


def detection() -> Rows:
    """Each score's AUROC for images that are not of the data set, on both models of MNIST's grey pixels."""
    names = ("mnist-2d", "mnist-2d-wide")
    found = [read("detection")[name]["conditions"] for name in names]
    head = ["score: AUROC on " + ", ".join(f"`{name}`" for name in names), *SHIFTED]
    return [head, *([SCORES[score].replace("**", ""), *_detections(found, score)] for score in DETECTORS)]


def _detections(models: list[dict[str, Any]], score: str) -> list[str]:
    return [", ".join(f"{model[shift][score]['auroc']:.2f}" for model in models) for shift in SHIFTED]


def read(name: str) -> dict[str, Any]:
    """A file of results."""
    return dict(read_json(RESULTS / f"{name}.json"))


TABLES: dict[str, Callable[[], Rows]] = {
    "findings": findings,
    "methods": methods,
    "zoo": zoo,
    "uncertainty": uncertainty,
    "settled": settled,
    "seeds": seeds,
    "claims": claims,
    "exact gaps": exact_gaps,
    "exact gaps, digits": partial(exact_gaps, "digits-2d"),
    "exact gaps, wide": partial(exact_gaps, "mnist-2d-wide"),
    "exact gaps, binary": partial(exact_gaps, "binary-mnist-2d"),
    "exact gaps, whole": whole,
    "referee": referee,
    "judges": judges,
    "shortfall": shortfall,
    "proposals": proposals,
    "table 1": table_one,
    "table 1, d = 20": partial(table_one, 20),
    "table 1, d = 50": partial(table_one, 50),
    "refined training": refined,
    "capacity": capacity,
    "difficulty": difficulty,
    "detection": detection,
    "exactness": exactness,
    "speed": speed,
    "shortcuts": shortcuts,
    "two moons": two_moons,
    "floor": floor,
    "optima": optima,
    "over seeds": over_seeds,
    "training speed": lambda: training.table(read_json(RESULTS / "training.json")),
    "table 3": lambda: table_three.table(read_json(RESULTS / "table-three.json")),
    "a class": load,
    "on a GPU": on_a_gpu,
    "speed on a GPU": gpu_speed,
    "served": served,
}


def main() -> None:
    """Print them all."""
    for make in TABLES.values():
        print(markdown(make()), end="\n\n")


if __name__ == "__main__":
    told(main)
