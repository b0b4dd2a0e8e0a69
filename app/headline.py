"""The page's first sentences, made from an image's numbers."""

from html import escape

from app.compute import View
from app.meter import short


def headline(view: View, label: int | None, read: int | None) -> str:
    """One sentence that says what is wrong, and a second that says why; HTML.

    ``label`` is the digit that the image shows, ``read`` the one that the encoder's guess decodes to; None: not known.
    """
    r, encoder = view.report, view.stages[0]
    kl, best = float(r[f"kl_{encoder.key}"]), float(r["kl_best"])
    nats = f"<b>{short(kl)} nats</b>"
    if label is not None and read is not None and read != label:
        first = f"The encoder reads this {label} as a <b>{read}</b>. It misses the true posterior by {nats}."
    else:
        first = f"The encoder misses the true posterior{'' if label is None else f' of this {label}'} by {nats}."
    only = "only " * (best >= 1e-3)
    second = (
        f"The best Gaussian misses by {only}<b>{short(best)}</b>. The other <b>{short(kl - best)} nats</b> are the "
        "<b>amortization gap</b>: the price of guessing in one network pass."
        if kl - best > best
        else f"Even the best Gaussian with independent axes misses by <b>{short(best)}</b>, the <b>approximation "
        f"gap</b>. Guessing in one network pass costs <b>{short(kl - best)} more</b>, the <b>amortization gap</b>."
    )
    alone = f"encoder: {escape(encoder.label)}"
    return f'<div class="headline" title="{alone}"><p class="first">{first}</p><p class="second">{second}</p></div>'
