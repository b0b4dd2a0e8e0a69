"""The exact-gap table of one decoder, from benchmarks/results/exact-gaps-DECODER.json."""

from itertools import product
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.common import RESULTS
from benchmarks.gaps_table import ROWS, split_key
from gpvae_core.files import read_json

DECODERS = ("digits-2d", "mnist-2d", "mnist-2d-wide", "binary-mnist-2d")
HEAD = [
    "q",
    "mean KL",
    "approximation gap",
    "amortization gap",
    "median",
    "90 %",
    "better than the VAE's",
    "KL(p, q), median",
]
HEAD += ["region of 50 / 80 / 95 % holds", "IWAE-100 less log p(x)", "ms", "parameters", "epochs"]

FAMILY_OF = dict.fromkeys(("vae", "vae-3", "gpvae", "savae", "svi"), "diagonal")
FAMILY_OF |= dict.fromkeys(("fullcov", "hf", "vlae", "gn"), "full")  # reflections turn a Gaussian of two dimensions


def exact_gaps(decoder: str = "mnist-2d") -> list[list[str]]:
    """One row a method, in the order of ``gaps_table.ROWS``."""
    found, best = read_json(RESULTS / f"exact-gaps-{decoder}.json"), read_json(RESULTS / "optima.json")[decoder]
    return [HEAD, *(_row(name, found[name], best) for name in ROWS if name in found)]


def _row(name: str, n: dict[str, Any], best: dict[str, Any]) -> list[str]:
    better = "" if name == "vae" else f"{100 * n['better_than_vae']:.1f} ± {196 * n['better_stderr']:.1f} %"
    return [
        name,
        f"{_short(n['mean'])} ± {_short(1.96 * n['stderr'])}",
        *_split(n, best[FAMILY_OF[ROWS[name].method]] if ROWS[name].method in FAMILY_OF else None),
        _short(n["median"]),
        _short(n["90 %"]),
        better,
        _short(n["reverse_kl_median"]),
        " / ".join(f"{100 * share:.0f}" for share in n["coverage"]) + " %",
        _short(n["iwae_less_evidence"]),
        f"{n['ms']:.0f}",
        f"{n['parameters']:,}",
        _epochs(n),
    ]


def _split(n: dict[str, Any], floor: dict[str, float] | None) -> list[str]:
    """The mean KL as what the best of q's family has, and the rest."""
    if floor is None:
        return ["not sought"] * 2
    return [f"{_short(floor['kl'])} ± {_short(1.96 * floor['stderr'])}", _short(n["mean"] - floor["kl"])]


def optima() -> list[list[str]]:
    """The best Gaussians of each decoder's images, and how far the search for them may err."""
    rows = [["decoder", "images", "Gaussian", "KL", "median", "largest error of an ELBO", "searched again"]]
    rows[0] += ["mean gain by that", "largest"]
    stored = read_json(RESULTS / "optima.json")
    for decoder, family in product(DECODERS, ("diagonal", "full")):
        found, n = stored[decoder], stored[decoder][family]
        rows.append([decoder, f"{found['images']:,} of {found['of']:,}", family])
        rows[-1] += [f"{_short(n['kl'])} ± {_short(1.96 * n['stderr'])}", _short(n["median"])]
        rows[-1] += [f"{n['largest_error']:.0e}", str(n["searched_again"])]
        rows[-1] += [f"{n['gain']:.0e}", f"{n['largest_gain']:.0e}"]
    return rows


def over_seeds() -> list[list[str]]:
    """Mean KL of every training of the rows that were trained more than once, and its spread over the seeds."""
    rows = [["decoder", "q", "mean KL of each seed", "their mean, ± standard deviation", "median KL of each seed"]]
    for decoder in DECODERS:
        found = read_json(RESULTS / f"exact-gaps-{decoder}.json")
        for name in ROWS:
            keys = sorted((key for key in found if split_key(key)[0] == name), key=split_key)
            several = [found[key] for key in keys]
            if len(several) > 1:
                means, medians = ([n[kind] for n in several] for kind in ("mean", "median"))
                spread = f"{_short(float(np.mean(means)))} ± {float(np.std(means, ddof=1)):.2g}"
                rows.append([decoder, name, ", ".join(map(_short, means)), spread, ", ".join(map(_short, medians))])
    return rows


def whole() -> list[list[str]]:
    """Mean and median KL on whole test sets, or the first 2,000 images, one column a decoder."""
    found = read_json(RESULTS / "exact-gaps-whole.json")["decoders"]
    head = ["q", *(f"{decoder}: mean, median" for decoder in found)]
    there = [name for name in ROWS if any(name in rows for rows in found.values())]
    return [head, *([_marked(name, found), *(_of_whole(rows.get(name)) for rows in found.values())] for name in there)]


def _marked(name: str, found: dict[str, dict[str, Any]]) -> str:
    """The row's name, with its number of images on the first decoder where others there have more."""
    rows = next(iter(found.values()))
    most, own = max(n["images"] for n in rows.values()), rows[name]["images"]
    return name if own == most else f"{name} (first {own:,})"


def _of_whole(n: dict[str, Any] | None) -> str:
    return "" if n is None else f"{_short(n['mean'])}, {_short(n['median'])}"


REFEREE = ["q", "k, median", "effective draws of 1,000", "rank correlation of k with the KL"]
REFEREE += ["missed: k ≤ 0.7, KL ≥ 1", "false alarms: k > 0.7, KL ≤ 0.1", "largest KL with k ≤ 0.7"]


def referee(decoder: str = "mnist-2d") -> list[list[str]]:
    """What Pareto's k says of each method's q, against the truth."""
    found = read_json(RESULTS / f"exact-gaps-{decoder}.json")
    return [REFEREE, *(_refereed(name, found[name]) for name in ROWS if "k_median" in found.get(name, {}))]


def _refereed(name: str, n: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{n['k_median']:.2f}",
        f"{n['ess_median']:.0f}",
        f"{n['k_spearman']:+.2f}",
        _share(n["k_missed"], n["far"]),
        _share(n["k_false_alarms"], n["near"]),
        _short(n["worst_trusted"]),
    ]


Q_OF = {"base": "vae", "marginal": "gpvae"}
JUDGES = {  # of benchmarks.referee
    "k": ("Pareto's k", "k ≤ 0.7"),
    "draws": ("effective draws", "≥ 100 of 1,000"),
    "bound": ("IWAE-1000 less ELBO", "≤ 0.32 nats"),
}


def _judged() -> list[tuple[str, str, dict[str, Any]]]:
    """Decoder, stage and what is stored of them, in order."""
    found = read_json(RESULTS / "referee.json")
    return [(decoder, stage, found[f"{decoder}, {stage}"]) for decoder, stage in product(DECODERS, Q_OF)]


def judges() -> list[list[str]]:
    """How often each judge that does not know the truth is wrong, of the shipped encoders."""
    rows = [
        ["decoder", "q", "judge", "trusts q where", "missed: KL ≥ 1, trusted", "false alarms: KL ≤ 0.1, not trusted"]
    ]
    rows[0] += ["rank correlation with the KL", "largest KL trusted"]
    for decoder, stage, found in _judged():
        for name, words in JUDGES.items():
            n = found[name]
            wrong = [_share(n["missed"], n["far"]), _share(n["false_alarms"], n["near"])]
            rows.append([decoder, Q_OF[stage], *words, *wrong, f"{n['spearman']:+.2f}", _short(n["worst_trusted"])])
    return rows


def shortfall() -> list[list[str]]:
    """What IWAE-1000, with q as the proposal, lacks of log p(x)."""
    rows = [["decoder", "q", "images", "IWAE-1000 short of log p(x), mean", "median", "short by a nat or more"]]
    for decoder, stage, found in _judged():
        rows.append([decoder, Q_OF[stage], f"{found['images']:,}", _short(found["shortfall"])])
        rows[-1] += [_short(found["shortfall_median"]), _share(found["short_by_a_nat"], found["images"])]
    return rows


def proposals() -> list[list[str]]:
    """IWAE-100 beyond two dimensions, one row a model: with the encoder as proposal, and what each other one adds."""
    steps = ["1 step", "2 steps", "4 steps"]
    head = ["d, seed", "images", "encoder", *(f"{name}: more" for name in steps), "log p(x), long run: more"]
    rows = [head]
    for name, found in read_json(RESULTS / "proposals.json").items():
        gains = [f"{found[k]['gain']:.1f} ± {1.96 * found[k]['gain_stderr']:.1f}" for k in (*steps, "long")]
        rows.append([name, str(found["images"]), f"{found['encoder']['iwae']:.1f}", *gains])
    return rows


def two_moons() -> list[list[str]]:
    """KL(q || p) of autoregressive flows on a density of two hills, each seed's."""
    found = read_json(RESULTS / "two-moons.json")["rows"]
    rows = [["flows", "as they are: KL of each seed", "tempered: KL of each seed"]]
    for flows in sorted({row["flows"] for row in found}):
        own = [[row["kl"] for row in found if row["flows"] == flows and row["tempered"] is t] for t in (False, True)]
        rows.append([str(flows), *(", ".join(f"{kl:.3f}" for kl in kls) for kls in own)])
    return rows


def floor() -> list[list[str]]:
    """How often SVI ends at the best diagonal Gaussian."""
    rows = [["decoder", "SVI at the floor", "elsewhere, the other climber too", "mean KL", "mean floor"]]
    for name, n in read_json(RESULTS / "floor.json").items():
        elsewhere = n["images"] - n["at the floor"]
        rows.append([name, _share(n["at the floor"], n["images"]), f"{n['other climber there too']} of {elsewhere}"])
        rows[-1] += [_short(n["kl"]), _short(n["floor"])]
    return rows


def _share(hits: int, of: int) -> str:
    """A count with Wilson's interval of 95 %, in per cent."""
    if not of:
        return "none of 0"
    low, high = binomtest(hits, of).proportion_ci(method="wilson")
    return f"{hits} of {of} ({100 * low:.1f} to {100 * high:.1f} %)"


def _short(value: float) -> str:
    """Three significant figures."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _epochs(n: dict[str, Any]) -> str:
    """Of a row's training; in brackets the one that was kept, where it is known and was not the last."""
    epochs, best = n.get("epochs") or "", n.get("best_epoch")
    return str(epochs) if best in (None, epochs) else f"{epochs} ({best})"
