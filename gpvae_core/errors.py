"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Bad input, in one sentence: what is wrong, which value, and the cure.

    The CLI prints it and exits with 2, the app shows it on the page; neither shows a traceback.
    """


def short(value: object, most: int = 40) -> str:
    """What somebody else wrote, for a sentence: on one line, without signs that cannot be shown, ``most`` at most."""
    flat = " ".join("".join(sign if sign.isprintable() else " " for sign in str(value)[: 10 * most]).split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
