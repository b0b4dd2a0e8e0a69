"""The gap meter, the trust badge and the tables: HTML and Markdown made from a View's numbers, nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import ceil, floor, inf, isfinite, log1p, log10
from typing import NamedTuple

import numpy as np

from app.compute import Array, View
from app.overlays import BEST, Overlay
from app.words import capital, filled, t, written
from gpvae_core.diagnostics.scores import SCORES
from gpvae_core.exact.best_gaussian import STEPS

UNTRUSTED = 0.01  # of a number's scale
DECIMALS = 3
FLOAT32 = 1.2e-7
LONG = 1e7  # from here on powers of ten
UNDIVIDED = "whole where q is not a diagonal Gaussian, so that it can beat the best of those"
SCALES = (
    "An error counts in nats where a number is below 1 nat, and for log p(x). It counts as a share of a larger KL or "
    "gap. An ELBO is judged by its KL. The limit is {limit} nat, or {share:g} %."
)
FOUND = (
    ": ELBO {elbo}, {short:.3g} nats below the best Gaussian, which was found from another start. It stands at "
    "z = ({first:.3f}, {second:.3f}). Every step goes uphill, so a walk that starts on a lower hill ends on its top."
)
CUT_OFF, STOPPED = (f"The walk from the encoder {so}{FOUND}" for so in ("was cut off", "stopped in a local optimum"))
OWN = "your Gaussian"
EVIDENCE, APPROXIMATION, AMORTIZATION = "exact log p(x)", "approximation gap", "amortization gap {of}"
PARTS = {"approximation": APPROXIMATION, "amortization": "amortization gap", "undivided": "KL"}  # by their class


def number(value: float, error: float | None = None) -> str:
    """``value`` with the digits that ``error`` allows: the place of its first digit is the last one shown.

    3 decimals at most; a whole number at least, or from LONG on a power of ten. Without an error 4 significant digits.
    """
    if not isfinite(value):
        return t("unknown") if value != value else t("infinite")
    if error is None:
        return written(value, ".4g")
    place = _place(error)
    if abs(value) >= LONG:
        return written(value, f".{min(max(floor(log10(abs(value))) - place, 0), 15)}e")
    decimals = min(max(-place, 0), DECIMALS)
    return written(round(value, decimals) + 0.0, f".{decimals}f")  # + 0.0: no "-0.000"


def short(nats: float) -> str:
    """Three significant digits, never a power of ten: below a thousandth it says so."""
    if nats != nats or nats in (float("inf"), float("-inf")):
        return t("unknown")
    if abs(nats) < 1e-3:
        return t("less than 0.001")
    return _three_digits(nats)


def brief(value: float) -> str:
    """``short`` for a narrow place, of either sign."""
    if 0 < abs(value) < 1e-3:
        return f"< {written(0.001)}" if value > 0 else f"> {written(-0.001)}"
    return _three_digits(value)


def _three_digits(value: float) -> str:
    return written(value, ".3g" if abs(value) < 1000 else ",.0f")


def _place(error: float) -> int:
    """The power of ten of an error's first digit."""
    if not isfinite(error):
        return 0
    return int(f"{error:.0e}".split("e")[1]) if error > 0 else -DECIMALS


class Number(NamedTuple):
    """A number in nats, its numerical error, and what that error is measured by, in nats.

    ``what`` says of which q it is where it has a {label}, or an {of}.
    """

    what: str
    value: float
    error: float
    scale: float
    label: str = ""

    @property
    def name(self) -> str:
        """What it is, in English: its name in tables and exports."""
        return self.what.format(label=self.label, of=f"of {_the(self.label)}")

    @property
    def said(self) -> str:
        """The same in the language that is spoken."""
        return t(self.what, label=t(self.label), of=of(self.label))

    @property
    def doubt(self) -> float:
        """Error in units of the scale; infinite where anything is not finite."""
        finite = isfinite(self.value) and isfinite(self.error)
        return abs(self.error) / self.scale if finite else inf

    @property
    def shown(self) -> str:
        """The value with the digits its error allows."""
        return number(self.value, self.error)


def _the(label: str) -> str:
    return label if label == OWN else f"the {label}"


def the(label: str) -> str:
    """A q within a sentence: "the base encoder", "your Gaussian"."""
    return t(OWN) if label == OWN else t("the {label}", label=t(label))


def subject(label: str) -> str:
    """A q at the head of a sentence: "The base encoder", "Your Gaussian"."""
    return capital(the(label))


def of(label: str) -> str:
    """Whose a number is: "of the base encoder", "of your Gaussian"."""
    return t("of your Gaussian") if label == OWN else t("of the {label}", label=t(label))


def numbers(view: View) -> list[Number]:
    """Every number in nats with its error and scale.

    KLs, gaps and the negentropy are distances from 0: the error counts in nats below 1 nat, as a share above. The size
    of log p(x), of the entropy and of an ELBO means nothing, as it moves with the pixels' unit. So the first two count
    in nats, and an ELBO, log p(x) - KL, by its KL.
    """
    r = view.report
    own = float(r["log_evidence_error"])
    found = [Number(EVIDENCE, float(r["log_evidence"]), own, 1.0)]
    for q in view.overlays:
        kl = _distance("KL({label} ‖ p)", r[f"kl_{q.key}"], r[f"kl_{q.key}_error"], q.label)
        found += [
            Number("ELBO {of}", float(r[f"elbo_{q.key}"]), kl.error - own, kl.scale, q.label),
            kl,
            _distance("KL(p ‖ {label})", r[f"kl_to_{q.key}"], r[f"kl_to_{q.key}_error"], q.label),
        ]
    found.append(_distance(APPROXIMATION, r["approximation_gap"], r["approximation_gap_error"]))
    found += [
        _distance(AMORTIZATION, r[key], r[f"{key}_error"], q.label)
        for q in view.overlays
        if (key := _amortization(view, q)) in r
    ]
    return [
        *found,
        Number("entropy of p(z|x)", float(r["entropy"]), float(r["entropy_error"]), 1.0),
        _distance("negentropy of p(z|x)", r["negentropy"], r["negentropy_error"]),
    ]


def _distance(what: str, value: float, error: float, label: str = "") -> Number:
    return Number(what, float(value), float(error), max(1.0, abs(float(value))), label)


def said_numbers(view: View) -> dict[str, str]:
    """Every number as text, by its name."""
    return {n.name: n.shown for n in numbers(view)}


def _amortization(view: View, q: Overlay) -> str:
    """The report's key of a q's amortization gap; it has none where q is no diagonal Gaussian."""
    return "amortization_gap" if q.key == view.stages[-1].key else f"amortization_gap_{q.key}"


def least_certain(view: View) -> Number:
    """The number whose error is largest on its own scale."""
    return max(numbers(view), key=lambda n: n.doubt)


def worst_error(view: View) -> float:
    """The largest numerical error of any number shown, each on its own scale."""
    return least_certain(view).doubt


def cost_outside(view: View) -> float:
    """Nats of log p(x) that whoever integrates over the box alone would lose."""
    outside = float(view.report["mass_outside_box"])
    return -log1p(-outside) if outside < 1 else inf


def trust_badge(view: View) -> str:
    """The least certain number and the mass outside the box, red above UNTRUSTED; words, not colour alone, say which.

    How a number's error is measured: ``numbers``.
    """
    outside = float(view.report["mass_outside_box"])
    worst = least_certain(view)
    reasons = [_doubts(worst)] if worst.doubt > UNTRUSTED else []
    if cost_outside(view) > UNTRUSTED:
        reasons.append(t("mass outside the box on screen (still counted in every number)"))
    good = not reasons
    verdict = t("Exact") if good else t("Look twice: {reasons}", reasons="; ".join(reasons))
    icon = "✓" if good else "!"
    return (
        f'<span class="badge {"good" if good else "bad"}" role="status">{icon} {escape(verdict)}</span> '
        f"{t('least certain: {number}', number=escape(_with_error(worst)))} · "
        f"{t('{share} of the mass outside the box', share=_share(outside))}"
        f"<small>{t(SCALES, limit=UNTRUSTED, share=100 * UNTRUSTED)}</small>"
    )


def _doubts(n: Number) -> str:
    if not isfinite(n.doubt):
        return t("{number} or its error is not a finite number", number=n.said)
    limit = f"{written(UNTRUSTED)} nat" if n.scale == 1 else f"{100 * UNTRUSTED:g} %"
    return t("numerical error above {limit} in {number}", limit=limit, number=n.said)


def _with_error(n: Number) -> str:
    """E.g. "KL(p ‖ base encoder) = 5286.4, error 0.2 nat, 0.003 % of it"."""
    if not isfinite(n.doubt):
        return t("{number} = {shown}, error unknown", number=n.said, shown=n.shown)
    error = t("{number} = {shown}, error {error:g} nat", number=n.said, shown=n.shown, error=_rounded_up(n.error))
    if n.scale == 1:
        return error
    whose = t("{share:g} % of its KL") if n.what.startswith("ELBO") else t("{share:g} % of it")
    return f"{error}, {filled(whose, share=_rounded_up(100 * n.doubt))}"


def _rounded_up(value: float) -> float:
    """Two digits, and never less: what lies above a limit reads so."""
    if value <= 0:
        return 0.0
    place = floor(log10(value)) - 1
    return float(f"{ceil(value / 10.0**place - 1e-9) * 10.0**place:.2g}")


def _share(value: float) -> str:
    return t("less than 0.01 %") if value < 1e-4 else written(value, ".2%").replace("%", " %")


def longest(view: View) -> float:
    """The largest KL of any q, in nats: the length of a scale."""
    return max(float(view.report[f"kl_{q.key}"]) for q in view.overlays)


def gap_meter(view: View, scale: float = 0.0) -> str:
    """log p(x) and each q's KL as a bar: approximation gap, then amortization gap; a full bar is ``scale`` or more."""
    shown = said_numbers(view)
    scale = max(scale, longest(view))
    rows = "".join(_meter_row(view, q, shown, scale) for q in view.overlays)
    undivided = any(not gap_parts(view, q, shown) for q in view.overlays)
    whole = f'; <span class="part"><span class="key undivided"></span>{t(UNDIVIDED)}</span>' if undivided else ""
    return (
        f'<p class="evidence">{t(EVIDENCE)} = <b>{shown[EVIDENCE]}</b> {t("nats")}</p>'
        '<div class="gaps"><div class="meter"><span class="wide">KL(q ‖ p(z|x)) = '
        f'<span class="part"><span class="key approximation"></span>{t(PARTS["approximation"])}</span> + '
        f'<span class="part"><span class="key amortization"></span>{t(PARTS["amortization"])}</span>{whole}</span>'
        f"{rows}</div></div>"
        f'<p class="walk-end">{escape(walk_end(view))}</p>'
        f'<p class="trust">{trust_badge(view)}</p>'
    )


def _meter_row(view: View, q: Overlay, shown: Mapping[str, str], scale: float) -> str:
    """One q's bar; ``shown``: every number of ``numbers`` by name, as text; ``scale``: nats of a full bar."""
    r, name, nats = view.report, t(q.label), t("nats")
    kl, whole = float(r[f"kl_{q.key}"]), shown[f"KL({q.label} ‖ p)"]
    parts = gap_parts(view, q, shown)
    drawn = parts or [("undivided", kl, whole)]
    bar = "".join(
        f'<span class="{part}" style="width:{100 * max(value, 0) / scale:.2f}%" title="{text} {nats}"></span>'
        for part, value, text in drawn
    )
    words = f"{name}: {', '.join(f'{t(PARTS[part])} {text} {nats}' for part, _, text in drawn)}"
    total = " + ".join(text for *_, text in parts) + " = " * bool(parts)
    return (
        f'<div class="row"><span>{escape(name)}</span>'
        f'<div class="bar" role="img" aria-label="{escape(words)}">{bar}</div>'
        f'<span class="total">{total}<b>{whole}</b></span>'
        f"<small>ELBO {shown[f'ELBO of {_the(q.label)}']} · KL(p(z|x) ‖ q) {shown[f'KL(p ‖ {q.label})']}</small></div>"
    )


def gap_parts(view: View, q: Overlay, shown: Mapping[str, str]) -> list[tuple[str, float, str]]:
    """The gap of a diagonal Gaussian taken apart: name, nats, text; nothing for another q, which can beat the best."""
    approximation, key = float(view.report["approximation_gap"]), _amortization(view, q)
    if q.key != BEST and key not in view.report:
        return []
    amortization = 0.0 if q.key == BEST else float(view.report[key])
    said = number(0, 0) if q.key == BEST else shown[f"amortization gap of {_the(q.label)}"]
    return [("approximation", approximation, shown[APPROXIMATION]), ("amortization", amortization, said)]


def walk_end(view: View) -> str:
    """Where the search that starts at the encoder ends, and how far below the best Gaussian, in words."""
    steps, last = len(view.path) - 1, view.path[-1]
    if view.arrives:
        return t("The walk from the encoder arrives at the best Gaussian.")
    return t(
        CUT_OFF if steps >= STEPS else STOPPED,
        elbo=elbo_text(last.elbo),
        short=view.path_short,
        first=last.mean[0],
        second=last.mean[1],
    )


def elbo_text(elbo: float, error: float = 0.0) -> str:
    """An ELBO of the search, whose decoder has the seven digits of float32, known to ``error`` nats."""
    return number(elbo, max(10.0**-DECIMALS, FLOAT32 * abs(elbo), error))


def number_rows(view: View) -> list[tuple[str, float, float]]:
    """Every number in nats: its name, value, numerical error."""
    return [(n.name, n.value, n.error) for n in numbers(view)]


def numbers_table(view: View) -> str:
    """``number_rows`` as Markdown."""
    lines = [f"| | {t('nats')} | {t('numerical error')} |", "|:--|--:|--:|"]
    lines += [f"| {_cell(n.said)} | {n.shown} | {n.error:.0e} |" for n in numbers(view)]
    return "\n".join(lines)


def difference_table(one: View, two: View) -> str:
    """Every number that both have, and by how much the second one's is larger, as Markdown; errors add up."""
    others = {n.name: n for n in numbers(two)}
    lines = [f"| {t('nats')} | {t('left')} | {t('right')} | {t('right less left')} |", "|:--|--:|--:|--:|"]
    for n in numbers(one):
        if (other := others.get(n.name)) is not None:
            more = number(other.value - n.value, other.error + n.error)
            signed = more if more.startswith("-") else f"+{more}"
            lines.append(f"| {_cell(n.said)} | {n.shown} | {other.shown} | {signed} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def percentile(values: Array, value: float) -> float:
    """The share of a test set's ``values`` below this one, in per cent."""
    return 100 * float((values < value).mean())


def scores_table(view: View, columns: Mapping[str, Array]) -> str:
    """What each score says of this image, and where that stands among the test images, as Markdown."""
    rows = [
        (name, f"{t(SCORES[name].label)} ({t(SCORES[name].unit)})", v, number(v)) for name, v in view.scores.items()
    ]
    for q in view.stages:
        key = f"kl_{q.key}"
        if key in columns:
            rows.append((key, t("exact KL {of} (nats)", of=of(q.label)), float(view.report[key]), _reported(view, key)))
    lines = [f"| {t('score')} | {t('this image')} | {t('percentile')} |", "|:--|--:|--:|"]
    for name, label, value, shown in rows:
        where = f"{written(percentile(columns[name], value), '.1f')} %" if name in columns else t("not stored")
        lines.append(f"| {_cell(label)} | {shown} | {where} |")
    return "\n".join(lines)


def meanings(names: Iterable[str]) -> str:
    """What each of these scores is, one a line, as Markdown."""
    scores = [SCORES[name] for name in names if name in SCORES]
    lines = (f"- **{_cell(t(score.label))}**: {_cell(t(score.meaning))}." for score in scores)
    return "\n".join(lines)


def _reported(view: View, key: str) -> str:
    """A number of the report as text, "none" where there is none."""
    value, error = view.report[key], view.report.get(f"{key}_error")
    return t("none") if value is None else number(float(value), error)


def places_table(view: View) -> str:
    """Means and standard deviations of everything on the plane, as Markdown."""
    r = view.report
    std = np.sqrt(np.diag(np.array(r["covariance"])))
    rows = [(t("exact p(z|x)"), np.array(r["mean"]), std)] + [(t(q.label), q.mean, q.std) for q in view.overlays]
    moments = [f"{t(moment)} {axis}" for moment in ("mean", "std") for axis in ("z₁", "z₂")]
    lines = [f"| | {' | '.join(moments)} |", "|:--|--:|--:|--:|--:|"]
    lines += [f"| {_cell(name)} | " + " | ".join(map(_place_text, [*m, *s])) + " |" for name, m, s in rows]
    if view.truth is not None:
        lines.append(f"| {t('true z')} | {' | '.join(map(_place_text, view.truth))} | | |")
    return "\n".join(lines)


def _place_text(value: float) -> str:
    return written(value, ".5f") if abs(value) < 1000 else number(value)  # an encoder of an empty image may be anywhere


def sheet_table(panels: Sequence[tuple[str, View]]) -> str:
    """The main numbers of a figure's images, one row each, as Markdown."""
    names = {"uncertainty": "U(x)", "log_evidence": "log p(x)"}
    names |= {f"kl_{q.key}": f"KL {t(q.label)}" for q in panels[0][1].overlays} | {"negentropy": t("negentropy")}
    lines = [f"| {t('image')} | {' | '.join(names.values())} | {t('modes')} |", "|:--|" + "--:|" * (len(names) + 1)]
    for heading, view in panels:
        cells = " | ".join(_reported(view, name) for name in names)
        lines.append(f"| {_cell(heading.replace(chr(10), ', '))} | {cells} | {len(view.report['modes'])} |")
    return "\n".join(lines)
