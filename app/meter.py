"""The gap meter, the trust badge and the tables: HTML and Markdown made from a View's numbers, nothing else."""

from collections.abc import Mapping, Sequence
from html import escape
from math import inf, log1p
from typing import Any

import numpy as np

from app.compute import NAMES, Array, View
from gpvae_core.scores import SCORES

UNTRUSTED = 0.01  # nats


def methods(view: View) -> list[str]:
    """The q's of this checkpoint: base, marginal (with a GP), best."""
    return [q.key for q in view.gaussians]


def worst_error(view: View) -> float:
    """The largest numerical error of any number shown, in nats."""
    r = view.report
    keys = ["log_evidence_error", *(f"{kind}_{q}_error" for q in methods(view) for kind in ("kl", "kl_to"))]
    return max(float(r[key]) for key in keys)


def cost_outside(view: View) -> float:
    """Nats of log p(x) that whoever integrates over the box alone would lose."""
    outside = float(view.report["mass_outside_box"])
    return -log1p(-outside) if outside < 1 else inf


def trust_badge(view: View) -> str:
    """Numerical error and mass outside the box, red above UNTRUSTED nats; words, not the colour alone, say which."""
    error, outside = worst_error(view), float(view.report["mass_outside_box"])
    reasons = []
    if error > UNTRUSTED:
        reasons.append(f"numerical error above {UNTRUSTED} nat")
    if cost_outside(view) > UNTRUSTED:
        reasons.append("mass outside the box on screen (still counted in every number)")
    good = not reasons
    verdict = "Exact" if good else "Look twice: " + "; ".join(reasons)
    icon = "✓" if good else "!"
    return (
        f'<span class="badge {"good" if good else "bad"}" role="status">{icon} {verdict}</span> '
        f"numerical error at most {error:.0e} nat · {_share(outside)} of the mass outside the box"
    )


def _share(value: float) -> str:
    return "less than 0.01 %" if value < 1e-4 else f"{value:.2%}".replace("%", " %")


def gap_meter(view: View) -> str:
    """log p(x) and each q's KL as a bar: amortization gap, then approximation gap."""
    r = view.report
    longest = max(float(r[f"kl_{q}"]) for q in methods(view))
    approximation = float(r["approximation_gap"])
    rows = []
    for q in methods(view):
        kl = float(r[f"kl_{q}"])
        amortization = 0.0 if q == "best" else kl - approximation
        parts = (("amortization", amortization), ("approximation", approximation))
        bar = "".join(
            f'<span class="{name}" style="width:{100 * max(value, 0) / longest:.2f}%" title="{value:.3f} nats"></span>'
            for name, value in parts
        )
        words = f"{NAMES[q]}: amortization gap {amortization:.3f} nats, approximation gap {approximation:.3f} nats"
        rows.append(
            f'<div class="row"><span>{escape(NAMES[q])}</span>'
            f'<div class="bar" role="img" aria-label="{escape(words)}">{bar}</div>'
            f'<span class="total">{amortization:.3f} + {approximation:.3f} = <b>{kl:.3f}</b></span>'
            f"<small>ELBO {float(r[f'elbo_{q}']):.3f} · KL(p(z|x) ‖ q) {float(r[f'kl_to_{q}']):.3f}</small></div>"
        )
    return (
        f'<p class="evidence">exact log p(x) = <b>{r["log_evidence"]:.3f}</b> nats</p>'
        f'<div class="meter"><span class="wide">KL(q ‖ p(z|x)) = '
        '<span class="key amortization"></span>amortization gap + '
        f'<span class="key approximation"></span>approximation gap</span>{"".join(rows)}</div>'
        f'<p class="trust">{trust_badge(view)}</p>'
    )


def number_rows(view: View) -> list[tuple[str, float, float]]:
    """Every number in nats: its name, value, numerical error."""
    r = view.report
    own = float(r["log_evidence_error"])
    rows = [("exact log p(x)", float(r["log_evidence"]), own)]
    for q in methods(view):
        error = float(r[f"kl_{q}_error"])
        rows += [
            (f"ELBO of the {NAMES[q]}", float(r[f"elbo_{q}"]), error - own),
            (f"KL({NAMES[q]} ‖ p)", float(r[f"kl_{q}"]), error),
            (f"KL(p ‖ {NAMES[q]})", float(r[f"kl_to_{q}"]), float(r[f"kl_to_{q}_error"])),
        ]
    rows += [
        ("approximation gap", float(r["approximation_gap"]), float(r["approximation_gap_error"])),
        ("amortization gap of the base encoder", float(r["amortization_gap_base"]), _error(r, "_base")),
    ]
    if view.has_gp:
        rows.append(("amortization gap of the marginalised q(z|x)", float(r["amortization_gap"]), _error(r, "")))
    return [
        *rows,
        ("entropy of p(z|x)", float(r["entropy"]), own),
        ("negentropy of p(z|x)", float(r["negentropy"]), own),
    ]


def _error(report: Mapping[str, Any], suffix: str) -> float:
    return float(report[f"amortization_gap{suffix}_error"])


def numbers_table(view: View) -> str:
    """``number_rows`` as Markdown."""
    lines = ["| | nats | numerical error |", "|:--|--:|--:|"]
    lines += [f"| {_cell(name)} | {value:.3f} | {error:.0e} |" for name, value, error in number_rows(view)]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def percentile(columns: Mapping[str, Array], name: str, value: float) -> float:
    """Share of the test set below ``value``, in per cent."""
    return 100 * float((columns[name] < value).mean())


def scores_table(view: View, columns: Mapping[str, Array]) -> str:
    """What each score says of this image, and where that stands among the test images, as Markdown."""
    lines = ["| score | this image | percentile |", "|:--|--:|--:|"]
    values = dict(view.scores)
    labels = {name: f"{SCORES[name].label} ({SCORES[name].unit})" for name in values}
    for q in ("base", "marginal"):
        if f"kl_{q}" in columns and q in methods(view):
            values[f"kl_{q}"] = float(view.report[f"kl_{q}"])
            labels[f"kl_{q}"] = f"exact KL of the {NAMES[q]} (nats)"
    for name, value in values.items():
        where = f"{percentile(columns, name, value):.1f} %" if name in columns else "not stored"
        lines.append(f"| {_cell(labels[name])} | {value:.4g} | {where} |")
    return "\n".join(lines)


def places_table(view: View) -> str:
    """Means and standard deviations of everything on the plane, as Markdown."""
    r = view.report
    std = np.sqrt(np.diag(np.array(r["covariance"])))
    rows = [("exact p(z|x)", np.array(r["mean"]), std)] + [(q.name, q.mean, q.std) for q in view.gaussians]
    lines = ["| | mean z₁ | mean z₂ | std z₁ | std z₂ |", "|:--|--:|--:|--:|--:|"]
    lines += [f"| {_cell(n)} | {m[0]:.5f} | {m[1]:.5f} | {s[0]:.5f} | {s[1]:.5f} |" for n, m, s in rows]
    if view.truth is not None:
        lines.append(f"| true z | {view.truth[0]:.5f} | {view.truth[1]:.5f} | | |")
    return "\n".join(lines)


def sheet_table(panels: Sequence[tuple[str, View]]) -> str:
    """The main numbers of a figure's images, one row each, as Markdown."""
    names = {"uncertainty": "U(x)", "log_evidence": "log p(x)", "kl_base": "KL base", "kl_marginal": "KL marginalised"}
    names |= {"kl_best": "KL best Gaussian", "negentropy": "negentropy"}
    lines = ["| image | " + " | ".join(names.values()) + " | modes |", "|:--|" + "--:|" * (len(names) + 1)]
    for heading, view in panels:
        values = [view.report[name] for name in names]
        cells = " | ".join("none" if value is None else f"{value:.4g}" for value in values)
        lines.append(f"| {_cell(heading.replace(chr(10), ', '))} | {cells} | {len(view.report['modes'])} |")
    return "\n".join(lines)
