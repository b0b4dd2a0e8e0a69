"""The walks over the plane and their words: to the best Gaussian, and of each method that looks step by step."""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from app.compute import ARRIVED, View
from app.meter import elbo_text, walk_end
from app.overlays import BEST as BEST_KEY
from app.own import KEY as MINE
from app.words import t
from gpvae_core.exact.best_gaussian import Step

BEST = "to the best Gaussian"
LABEL = "Walk from the encoder to the best"
LABEL_UPHILL = "Walk uphill from the encoder"
SETTLED = 5e-4  # nats: below the last decimal of an ELBO on the page
START = "One Gaussian sets out from the encoder's guess. Each step raises its ELBO."


@dataclass(frozen=True)
class Walk:
    """One walk: what the list and the button call it, what is said before its first step and after its last."""

    name: str
    label: str
    start: str
    end: str
    steps: list[Step]

    def data(self) -> dict[str, Any]:
        """The walk as the component wants it: each Gaussian by its mean and its Cholesky factor."""
        words = {"name": self.name, "label": self.label, "start": self.start, "end": self.end}
        return words | {"path": [_sent(step) for step in self.steps]}


def walks(view: View) -> list[Walk]:
    """The search for the best Gaussian first, then the steps of the methods on show."""
    best = Walk(t(BEST), t(LABEL if view.arrives else LABEL_UPHILL), t(START), walk_end(view), _uphill(view, view.path))
    labels = {q.key: t(q.label) for q in view.overlays}
    shown = {key: _until_settled(steps) for key, steps in view.paths.items() if len(steps) > 1}
    return [
        best,
        *(_of_own(view, s) if key == MINE else _of_method(view, key, labels[key], s) for key, s in shown.items()),
    ]


def _uphill(view: View, steps: list[Step]) -> list[Step]:
    """A climb, judged by the search's nodes: no step is said to be above the best, and where it arrives it is there."""
    top, best = float(view.report["elbo_best"]), next(q for q in view.overlays if q.key == BEST_KEY)
    climb = [replace(step, elbo=min(step.elbo, top)) for step in steps]
    if top - steps[-1].elbo <= ARRIVED:
        climb[-1] = Step(best.mean, np.diag(best.std**2), top)
    return climb


def _until_settled(steps: list[Step]) -> list[Step]:
    """Those that change what is shown, and the last."""
    last = len(steps) - 1
    arrived = next((k for k, step in enumerate(steps) if abs(step.elbo - steps[-1].elbo) < SETTLED), last)
    return [*steps[:arrived], steps[-1]]


def _of_method(view: View, key: str, name: str, steps: list[Step]) -> Walk:
    start = t(
        "One Gaussian sets out from the encoder's guess. At each step {name} looks at the image again.", name=name
    )
    end = t(
        "{name} ends here: ELBO {elbo} nats, {kl:.3g} below log p(x).",
        name=name,
        elbo=elbo_text(steps[-1].elbo),
        kl=view.report[f"kl_{key}"],
    )
    return Walk(t("along {name}", name=name), t("Follow {name}", name=name), start, end, steps)


def _of_own(view: View, steps: list[Step]) -> Walk:
    steps, top = _uphill(view, steps), float(view.report["elbo_best"])
    below = top - steps[-1].elbo
    where = t("{nats:.3g} below the best Gaussian", nats=below) if below else t("at the best Gaussian")
    end = t("The walk from yours ends here: ELBO {elbo} nats, {where}.", elbo=elbo_text(steps[-1].elbo), where=where)
    start = t("One Gaussian sets out from yours. Each step raises its ELBO.")
    return Walk(t("from your Gaussian"), t("Walk uphill from yours"), start, end, steps)


def _sent(step: Step) -> dict[str, Any]:
    elbo = {"elbo": _finite(step.elbo), "text": elbo_text(step.elbo)}
    return {"mean": step.mean.tolist(), "tril": _factor(step)} | elbo


def _factor(step: Step) -> list[float]:
    """The lower Cholesky factor of the covariance, row by row, without its 0; of a flat one, too."""
    (first, _), (both, second) = step.covariance.tolist()
    a = sqrt(first)
    b = both / a if a else 0.0
    return [a, b, sqrt(max(second - b**2, 0.0))]


def _finite(elbo: float) -> float:
    """A height that JSON and a curve can hold: a q where the decoder's arithmetic ends has none."""
    return elbo if np.isfinite(elbo) else float(np.finfo(np.float32).min)
