"""The paper's Table 1 as far as it is made, and what a decoder learns from a refined q: from benchmarks/results."""

from typing import Any

import numpy as np
from scipy.stats import ttest_rel

from benchmarks.common import RESULTS, student
from benchmarks.paper_tables import CELLS, PAPER, PAPER_DIMS
from gpvae_core.files import read_json

Rows = list[list[str]]
WAYS = {  # of benchmarks.refined_training
    "vae": "the encoder's q: a plain VAE",
    "apart": "the refined q",
    "its width alone": "the encoder's mean, the refined covariance",
    "together": "the encoder's q and the refined one, half each",
}
EPOCHS, CHANCE = 10, 0.05
MEASURED = {"elbo": "ELBO", "iwae": "IWAE-100", "iwae_by_search": "IWAE-100 by search"}
COMPARED = {"vae": "plain VAE", "vae-3": "VAE with three trunks", "gpvae": "GPVAE"}
COMPARED |= {"vae-3, settled": "VAE with three trunks, GP settled on it"}


def cells(name: str, dim: int) -> dict[int, dict[str, Any]]:
    """What is stored of a method at one dimension, by seed."""
    head, tail = f"{name}, d = {dim}, {EPOCHS} epochs, seed ", read_json(RESULTS / "paper-tables.json")
    found = {key.removeprefix(head): cell for key, cell in tail.items() if key.startswith(head)}
    return {int(seed): cell for seed, cell in found.items() if seed.isdigit()}  # the others are of some images alone


def table_one(dim: int = 10) -> Rows:
    """Every method: means over its seeds, ± their standard deviation; the paper's column beside them.

    A star: by a two-sided t-test, paired by seed, the method differs from the plain VAE at p < CHANCE.
    """
    rows = [["method", "seeds", *MEASURED.values(), "the paper's IWAE-100", "parameters", "s of training"]]
    for name in CELLS:
        found = cells(name, dim)
        if found:
            paper = dict(zip(PAPER_DIMS, PAPER.get(name, ()), strict=False)).get(dim)
            row = [name, str(len(found)), *(_over_seeds(name, dim, key) for key in MEASURED)]
            row += ["" if paper is None else f"{paper:.1f}", f"{next(iter(found.values()))['parameters']:,}"]
            rows.append([*row, f"{_mean(found, 'seconds'):,.0f}"])
    return rows


def _over_seeds(name: str, dim: int, key: str) -> str:
    """Mean ± standard deviation; a star where it differs from the plain VAE's beyond chance."""
    own, plain = cells(name, dim), cells("vae", dim)
    text = f"{_mean(own, key):.1f}"
    if len(own) > 1:
        text += f" ± {np.std([cell[key] for cell in own.values()], ddof=1):.1f}"
    both = sorted(own.keys() & plain.keys())
    if name == "vae" or len(both) < 2:
        return text
    p = ttest_rel([own[seed][key] for seed in both], [plain[seed][key] for seed in both]).pvalue
    return text + " *" * bool(p < CHANCE)


def refined() -> Rows:
    """Each way of ``benchmarks.refined_training``, worst decoder first."""
    found = {key: cell for key, cell in read_json(RESULTS / "refined-training.json").items() if cell["dim"] == 10}
    ways = sorted(found.items(), key=lambda item: item[1]["iwae_by_search"])
    rows = [["the decoder learns from", "ELBO of the encoder", "ELBO", "IWAE-100", "IWAE-100 by search"]]
    for key, cell in ways:
        numbers = [f"{cell[name]:.1f}" for name in ("elbo_of_encoder", "elbo", "iwae", "iwae_by_search")]
        rows.append([WAYS[key.split(", ")[0]], *numbers])
    return rows


def capacity() -> Rows:
    """GPVAE, a plain VAE and its three trunks alone: means over seeds, and differences paired by seed."""
    head = ["d, seeds", "method", "parameters", "ELBO", "IWAE-100", "less the plain VAE's", "less three trunks'"]
    rows = [[*head, "IWAE-100 by search", "less the plain VAE's"]]
    for dim in (10, 20, 50):
        for name, label in COMPARED.items():
            found = cells(name, dim)
            if not found:
                continue
            where = f"{dim}, {len(found)}"
            row = [where, label, f"{found[0]['parameters']:,}", f"{_mean(found, 'elbo'):.1f}"]
            row += [f"{_mean(found, 'iwae'):.1f}", _apart(name, "vae", dim, "iwae")]
            row += [_apart(name, "vae-3", dim, "iwae") if name == "gpvae" else ""]
            rows.append([*row, f"{_mean(found, 'iwae_by_search'):.1f}", _apart(name, "vae", dim, "iwae_by_search")])
    return rows


def _apart(name: str, other: str, dim: int, key: str) -> str:
    """A method's number less another one's; nothing where they are the same."""
    return "" if name == other else spoken(*less(name, other, dim, key))


def _mean(found: dict[int, dict[str, Any]], key: str) -> float:
    return float(np.mean([cell[key] for cell in found.values()]))


def less(name: str, other: str, dim: int, key: str) -> tuple[float, float]:
    """Mean over seeds of a method's number less the other's of that seed, and half of Student's 95 % interval."""
    own, control = cells(name, dim), cells(other, dim)
    return student([own[seed][key] - control[seed][key] for seed in own])


def hidden(dim: int) -> tuple[float, float]:
    """What the search adds to the plain VAE's IWAE-100, over seeds."""
    return student([cell["iwae_by_search"] - cell["iwae"] for cell in cells("vae", dim).values()])


def spoken(mean: float, half: float) -> str:
    """Signed, with its interval."""
    return f"{mean:+.1f} ± {half:.1f}"
