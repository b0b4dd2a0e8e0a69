"""The walks over the plane and their words: from the encoder, the prior, yours, and of methods that go step by step."""

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from app.compute import ARRIVED, View
from app.meter import elbo_text, walk_end
from app.overlays import BEST as BEST_KEY
from app.own import KEY as MINE
from app.own import SHARE
from app.words import t
from gpvae_core.exact.best_gaussian import STEPS, Step

ENCODER, PRIOR = "encoder", "prior"  # keys of walks: where each begins; any other is its overlay's
BEST = "to the best Gaussian"
LABEL = "Walk from the encoder to the best"
LABEL_UPHILL = "Walk uphill from the encoder"
WIDE, WITHIN = 2, 4.5  # spacings of the grid that a std has to be, and stds that the box has to hold
SETTLED = 5e-4  # nats: below the last decimal of an ELBO on the page
START = "One Gaussian sets out from the encoder's guess. Each step raises its ELBO."


@dataclass(frozen=True)
class Walk:
    """One walk: its key, what the list and the button call it, what is said before its first step and after its last.

    One without steps is computed once it is chosen.
    """

    key: str
    name: str
    label: str
    start: str
    end: str
    steps: list[Step]

    def data(self) -> dict[str, Any]:
        """The walk as the component wants it: each Gaussian by its mean and its Cholesky factor."""
        words = {"key": self.key, "name": self.name, "label": self.label, "start": self.start, "end": self.end}
        return words | {"path": [_sent(step, self.steps[-1].elbo) for step in self.steps]}


def walks(view: View, *, asked: bool = False) -> list[Walk]:
    """The search for the best Gaussian first, then the one from the prior, then the steps of the methods on show.

    ``asked``: whether somebody listens who can be asked for the walk from the prior where it is not there.
    """
    label = t(LABEL if view.arrives else LABEL_UPHILL)
    best = Walk(ENCODER, t(BEST), label, t(START), walk_end(view), _uphill(view, view.path))
    prior = [_of_prior(view, view.paths.get(PRIOR, []))] if asked or PRIOR in view.paths else []
    labels = {q.key: t(q.label) for q in view.overlays}
    shown = {key: _until_settled(steps) for key, steps in view.paths.items() if key != PRIOR and len(steps) > 1}
    others = (_of_own(view, s) if key == MINE else _of_method(view, key, labels[key], s) for key, s in shown.items())
    return [best, *prior, *others]


def _uphill(view: View, steps: list[Step]) -> list[Step]:
    """A climb, judged by the search's nodes: no step is said to be above the best, and where it arrives it is there."""
    top, best = float(view.report["elbo_best"]), next(q for q in view.overlays if q.key == BEST_KEY)
    climb = [replace(step, elbo=min(_on_grid(view, step), top)) for step in steps]
    if top - steps[-1].elbo <= ARRIVED:
        climb[-1] = Step(best.mean, np.diag(best.std**2), top)
    return climb


def _on_grid(view: View, step: Step) -> float:
    """The step's ELBO by the trapezoid rule on the base grid, if q is wide enough for that and lies within the box.

    The few nodes of a search misjudge such a q by tens of nats, the grid by hundredths.
    """
    axis, std = view.box_axis, np.sqrt(np.diag(step.covariance))
    if std.min() < WIDE * (axis[1] - axis[0]) or (np.abs(step.mean) + WITHIN * std).max() > axis[-1]:
        return step.elbo
    densities = np.exp(-0.5 * ((axis[:, None] - step.mean) / std) ** 2)
    first, second = (densities / densities.sum(0)).T
    return float(first @ view.box_log_joint @ second + np.log(2 * np.pi * np.e) + np.log(std).sum())


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
    return Walk(key, t("along {name}", name=name), t("Follow {name}", name=name), start, end, steps)


def _of_own(view: View, steps: list[Step]) -> Walk:
    start, climb = t("One Gaussian sets out from yours. Each step raises its ELBO."), _uphill(view, steps)
    return Walk(MINE, t("from your Gaussian"), t("Walk uphill from yours"), start, _climbed(view, climb), climb)


def _of_prior(view: View, steps: list[Step]) -> Walk:
    start = t("One Gaussian sets out from the prior, as if no image were known. Each step raises its ELBO.")
    climb = _uphill(view, steps) if steps else []
    end = _climbed(view, climb) if climb else ""
    return Walk(PRIOR, t("from the prior"), t("Walk uphill from the prior"), start, end, climb)


def _climbed(view: View, climb: list[Step]) -> str:
    """Where a climb of ``_uphill`` ended."""
    below = float(view.report["elbo_best"]) - climb[-1].elbo
    if not below:
        where = t("at the best Gaussian")
    elif len(climb) > STEPS:
        where = t("cut off {nats:.3g} below the best Gaussian", nats=below)
    else:
        where = t("in a local optimum {nats:.3g} below the best Gaussian", nats=below)
    return t("The walk ends here: ELBO {elbo} nats, {where}.", elbo=elbo_text(climb[-1].elbo), where=where)


def _sent(step: Step, top: float) -> dict[str, Any]:
    """A step; its ELBO is known to a share of what it lacks of the ``top``."""
    elbo = {"elbo": _finite(step.elbo), "text": elbo_text(step.elbo, SHARE * abs(top - step.elbo))}
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
