"""The page's first sentences, made from an image's numbers."""

from collections.abc import Collection
from html import escape

from app.compute import View
from app.meter import short
from app.words import t

READ = "The encoder reads this {label} as <b>{read}</b>. It misses the true posterior by {nats}."
READ_OTHER = "The encoder reads this {label} as another digit. It misses the true posterior by {nats}."
MISSES = "The encoder misses the true posterior by {nats}."
MISSES_DIGIT = "The encoder misses the true posterior of this {label} by {nats}."
AMORTIZATION = (
    "The best Gaussian misses by only <b>{best}</b>. The other <b>{rest} nats</b> are the <b>amortization gap</b>: the "
    "price of guessing in one network pass."
)
APPROXIMATION = (
    "Even the best Gaussian with independent axes misses by <b>{best}</b>, the <b>approximation gap</b>. Guessing in "
    "one network pass costs <b>{rest} more</b>, the <b>amortization gap</b>."
)


def misses(view: View) -> str:
    """By how many nats the encoder misses; HTML, which Markdown takes, too."""
    return t(MISSES, nats=f"<b>{short(float(view.report[f'kl_{view.stages[0].key}']))} {t('nats')}</b>")


def headline(view: View, label: int | None, read: Collection[int], *, why: bool = True) -> str:
    """One sentence that says what is wrong, and a second that says why, if it is wanted; HTML.

    ``label`` is the digit that the image shows, None where that is not known, and ``read`` are those that the encoder's
    guess may decode to.
    """
    r, encoder = view.report, view.stages[0]
    kl, best = float(r[f"kl_{encoder.key}"]), float(r["kl_best"])
    nats = f"<b>{short(kl)} {t('nats')}</b>"
    if label is not None and read and label not in read:
        first = t(READ if len(read) == 1 else READ_OTHER, label=label, read=next(iter(read)), nats=nats)
    else:
        first = misses(view) if label is None else t(MISSES_DIGIT, label=label, nats=nats)
    parts = t(AMORTIZATION if kl - best > best else APPROXIMATION)
    if best < 1e-3:  # "only less than 0.001"
        parts = parts.replace(t("only <b>"), "<b>")
    second = f'<p class="second">{parts.format(best=short(best), rest=short(kl - best))}</p>' if why else ""
    alone = f"{t('encoder')}: {escape(t(encoder.label))}"
    return f'<div class="headline" title="{alone}"><p class="first">{first}</p>{second}</div>'
