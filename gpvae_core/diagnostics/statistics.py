"""How well one number ranks another: correlations of ranks, areas under curves, and their bootstrap intervals."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Values = NDArray[np.floating]
RESAMPLES = 500


def spearman(a: Values, b: Values) -> float:
    """Spearman's rank correlation of a and b, (N,) each; 0 where one of them is constant."""
    ranks = np.stack([rankdata(a), rankdata(b)])
    return 0.0 if (ranks.std(1) == 0).any() else float(np.corrcoef(ranks)[0, 1])


def partial_spearman(a: Values, b: Values, given: Values) -> float | None:
    """Rank correlation of a and b with the ranks of ``given`` taken out of both; None for ``given`` itself."""
    ab, ag, bg = spearman(a, b), spearman(a, given), spearman(b, given)
    left = (1 - ag**2) * (1 - bg**2)
    return None if left < 1e-9 else float((ab - ag * bg) / np.sqrt(left))


def auroc(outside: Values, inside: Values) -> float:
    """P(outside > inside) + P(outside = inside) / 2 over all pairs: Mann and Whitney's U by the sum of ranks."""
    ranks = rankdata(np.concatenate([outside, inside]))[: len(outside)]
    return float((ranks.sum() - len(outside) * (len(outside) + 1) / 2) / (len(outside) * len(inside)))


def spearman_interval(a: Values, b: Values, *, generator: np.random.Generator) -> list[float]:
    """The central 95 % of Spearman's rho over RESAMPLES bootstrap draws of the N pairs."""
    draws = (generator.integers(len(a), size=len(a)) for _ in range(RESAMPLES))
    return _central([spearman(a[i], b[i]) for i in draws])


def rank_interval(rho: float, count: int) -> tuple[float, float]:
    """95 % of Spearman's rho over ``count`` pairs by Fisher's z, with Bonett & Wright's (2000) variance of ranks."""
    half = 1.96 * np.sqrt((1 + rho**2 / 2) / max(count - 3, 1))
    low, high = np.tanh(np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12)) + np.array([-half, half]))
    return float(low), float(high)


def auroc_interval(outside: Values, inside: Values, *, generator: np.random.Generator) -> list[float]:
    """The central 95 % of the AUROC over RESAMPLES bootstrap draws from both sets."""

    def again(values: Values) -> Values:
        return generator.choice(values, len(values))

    return _central([auroc(again(outside), again(inside)) for _ in range(RESAMPLES)])


def _central(draws: list[float]) -> list[float]:
    return [float(v) for v in np.quantile(draws, [0.025, 0.975])]
