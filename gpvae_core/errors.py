"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Bad input, in one sentence: what is wrong, which value, and the cure.

    The CLI prints it and exits with 2, the app shows it on the page; neither shows a traceback.
    """
