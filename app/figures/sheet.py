"""What a figure holds: images chosen by a stated rule, never by hand, and each one's View."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from app.compute import Array, View
from app.meter import of
from app.overlays import Overlay
from app.words import t, written
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.diagnostics.scores import SCORES
from gpvae_core.errors import InputError

FIGURE_2_QUANTILES = (0.1, 0.5, 0.9)
MOST_IMAGES = 120


@dataclass(frozen=True)
class Panel:
    """One image of a figure: its View, a heading, and, for a test image, its number and class."""

    view: View
    heading: str
    index: int | None = None
    label: int | None = None


@dataclass(frozen=True)
class Sheet:
    """A whole figure. ``overlays``: which q's are drawn; ``config``: what it was made of, JSON-ready.

    ``rule`` says which images these are; the caption says it, too, and how to read the printed figure.
    ``subject`` names the image of a figure that is of one only. ``parts``: the sheets that a comparison is made of.
    """

    name: str
    title: str
    caption: str
    panels: list[Panel]
    overlays: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    subject: str = ""
    rule: str = ""
    parts: tuple["Sheet", ...] = ()

    @property
    def made(self) -> tuple["Sheet", ...]:
        """The sheets, each of one checkpoint, whose panels these are: itself, where it has no ``parts``."""
        return self.parts or (self,)

    @property
    def drawn(self) -> list[Overlay]:
        """One q of each kind that is drawn, for the legend."""
        shown = {q.key: q for panel in self.panels for q in panel.view.overlays if q.key in self.overlays}
        return list(shown.values())


RULE_1 = "Test images of {data} at the {quantiles} quantiles of {score} under {checkpoint}."
CAPTION_1 = (
    "Contours: log p(z|x) over the whole box; inset: regions of 50, 80 and 95 % of the mass. Orange-red, dashed: {q}. "
    "Below: the input and its reconstruction from the mean {of}."
)
RULE_2 = (
    "Test images of {data} at the {quantiles} quantiles of KL(base) - KL(marginalised) under {checkpoint}: "
    "{worse:.1%} of the test images are made worse (gain below 0)."
)
CAPTION_2 = "Orange-red, dashed: base encoder; blue: marginalised q(z|x); grey: the true posterior."
ALIKE = "Here the two cannot be told apart: the largest of these gains is {nats:.2g} nats."


def at_quantiles(values: Array, quantiles: Sequence[float]) -> list[int]:
    """The images whose rank among ``values`` is nearest to each quantile: ties go by number."""
    order = np.argsort(values, kind="stable")
    return [int(order[round(q * (len(order) - 1))]) for q in quantiles]


def even_quantiles(count: int) -> list[float]:
    """The middles of ``count`` equal parts. Raises InputError unless 1 <= count <= MOST_IMAGES."""
    if not 1 <= count <= MOST_IMAGES:
        raise InputError(f"a figure of {count} images cannot be drawn; choose between 1 and {MOST_IMAGES}")
    return [(k + 0.5) / count for k in range(count)]


def check_score(by: str, checkpoint: Checkpoint, names: Collection[str]) -> None:
    """Raise InputError where ``by`` is none of the ``names``."""
    if by not in names:
        raise InputError(f"there is no score '{by}' for {checkpoint.name}; choose among {', '.join(names)}")


def figure_1(
    checkpoint: Checkpoint,
    dataset: str,
    columns: dict[str, Array],
    labels: Array | None,
    view_of: Callable[[int], View],
    *,
    count: int = 6,
    by: str = "uncertainty",
    label: str | None = None,
) -> Sheet:
    """Figure 1: ``count`` test images in ascending order of a score, at stated quantiles of it; ``label`` names it."""
    check_score(by, checkpoint, columns)
    name = label or t(SCORES[by].label)
    quantiles = even_quantiles(count)
    panels = [
        _panel(index, labels, view_of, f"{_quantile(q)}\n({name} = {written(columns[by][index], '.3g')})")
        for index, q in zip(at_quantiles(columns[by], quantiles), quantiles, strict=True)
    ]
    key, first = next(iter(checkpoint.model.encoder.labels.items()))
    others = [q for q in panels[0].view.overlays if q.key in panels[0].view.others]
    rule = t(RULE_1, data=dataset, quantiles=_listed(quantiles), score=name, checkpoint=checkpoint.name)
    caption = f"{rule} {t(CAPTION_1, q=t(first), of=of(first))}"
    if others:
        caption += f" {t('Also drawn: {names}.', names=', '.join(t(q.label) for q in others))}"
    config = _config(checkpoint, dataset, panels) | {"by": by, "quantiles": quantiles}
    drawn, title = (key, *(q.key for q in others)), t("True posteriors by ascending {score}", score=name)
    return Sheet("figure1", title, caption, panels, drawn, config, rule=rule)


def figure_2(
    checkpoint: Checkpoint,
    dataset: str,
    columns: dict[str, Array],
    labels: Array | None,
    view_of: Callable[[int], View],
) -> Sheet:
    """Figure 2: base and marginalised encoder where the second gains least, typically, and most."""
    if "uncertainty" not in columns:
        raise InputError(f"{checkpoint.name} is a plain VAE: there is no marginalised encoder to compare with its base")
    if "kl_base" not in columns:
        raise InputError(
            f"the exact KLs of {checkpoint.name} are not stored, so images cannot be chosen by them; run "
            "`python -m app.figures`, which computes them"
        )
    gain = columns["kl_base"] - columns["kl_marginal"]
    panels = [
        _panel(index, labels, view_of, f"{_quantile(q)}\n({t('KL gain {nats:+.3f} nats', nats=gain[index])})")
        for index, q in zip(at_quantiles(gain, FIGURE_2_QUANTILES), FIGURE_2_QUANTILES, strict=True)
    ]
    quantiles, worse = _listed(FIGURE_2_QUANTILES), (gain < 0).mean()
    rule = t(RULE_2, data=dataset, quantiles=quantiles, checkpoint=checkpoint.name, worse=worse)
    rule = f"{rule} {_too_close(gain[[panel.index for panel in panels]])}".strip()
    caption = f"{rule} {t(CAPTION_2)}"
    config = _config(checkpoint, dataset, panels) | {"quantiles": list(FIGURE_2_QUANTILES)}
    return Sheet(
        "figure2", t("What marginalising does to q(z|x)"), caption, panels, ("base", "marginal"), config, rule=rule
    )


def _too_close(gains: Array) -> str:
    """A sentence where both encoders' regions lie on one another in all panels."""
    most = float(np.abs(gains).max())
    return t(ALIKE, nats=most) if most < 0.01 else ""


def single(checkpoint: Checkpoint, view: View, name: str, index: int | None, config: dict[str, Any]) -> Sheet:
    """One image, whatever it is, with every q on it."""
    overlays = tuple(q.key for q in view.overlays)
    drawn = ", ".join(t(q.label) for q in view.overlays)
    caption = t(
        "The true posterior of {image} under {checkpoint}, with {names}.",
        image=name,
        checkpoint=checkpoint.name,
        names=drawn,
    )
    panel = Panel(view, name, index)
    whole = {"checkpoint": checkpoint.name, "weights": checkpoint.digest} | config
    return Sheet("posterior", t("p(z|x) of {image}", image=name), caption, [panel], overlays, whole, name)


def pair(one: Sheet, two: Sheet) -> Sheet:
    """Two sheets of one image each, side by side."""
    parts = (one, two)
    names = [
        t("{image} under {checkpoint}", image=part.subject, checkpoint=part.config["checkpoint"]) for part in parts
    ]
    panels = [replace(part.panels[0], heading=f"{part.subject}\n{part.config['checkpoint']}") for part in parts]
    return Sheet(
        "comparison",
        t("p(z|x) of {image}", image=t("{one} and {other}", one=names[0], other=names[1])),
        " ".join(part.caption for part in parts),
        panels,
        tuple(dict.fromkeys([*one.overlays, *two.overlays])),
        {"parts": [part.config for part in parts]},
        subject="-".join(dict.fromkeys(part.subject for part in parts)),
        parts=parts,
    )


def _panel(index: int, labels: Array | None, view_of: Callable[[int], View], line: str) -> Panel:
    label = None if labels is None else int(labels[index])
    return Panel(view_of(index), f"{t('image {index}', index=index)}\n{line}", index, label)


def _config(checkpoint: Checkpoint, dataset: str, panels: list[Panel]) -> dict[str, Any]:
    others = list(panels[0].view.others)
    return ({"encoders": others} if others else {}) | {
        "checkpoint": checkpoint.name,
        "weights": checkpoint.digest,
        "dataset": dataset,
        "split": "test",
        "seed": checkpoint.split,
        "indices": [panel.index for panel in panels],
    }


def _quantile(share: float) -> str:
    return t("{share} quantile", share=_percent(share))


def _listed(quantiles: Sequence[float]) -> str:
    return ", ".join(map(_percent, quantiles))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
