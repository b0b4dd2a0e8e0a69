"""Predict, then reveal: the user places a Gaussian before the posterior is shown; ten in a row make a score."""

from statistics import median
from typing import NamedTuple

import numpy as np
import streamlit as st

from app import session, text
from app.compute import View
from app.lesson import PRIOR
from app.meter import short
from app.own import KEY
from app.views import four
from app.views.sources import Subject
from app.words import t

SCORE, ROUNDS = "guesses", 10


class Guess(NamedTuple):
    """What one guess was worth: the user's KL and the encoder's, in nats."""

    image: str
    mine: float
    encoder: float


def start() -> None:
    """Hide the answer; the guess begins as the prior."""
    session.update(guess=True, mine=PRIOR)


def bar(subject: Subject, view: View, images: int | None, *, fours: bool = False) -> None:
    """The buttons of the game, and its score; ``images``: how many test images there are, None for one's own.

    ``fours``: whether four of them can be compared.
    """
    if session.current().guess:
        st.write(t(text.GUESS))
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{subject.sentence}.", width="content")
            st.button(
                t("Reveal"),
                type="primary",
                on_click=_reveal,
                args=(subject.name, view),
                key="reveal",
                disabled=session.current().mine == PRIOR,
                help=t(text.MOVE_FIRST) if session.current().mine == PRIOR else None,
            )
            st.button(t("Show without guessing"), on_click=lambda: session.update(guess=False, mine=None))
            if fours and not session.current().step:
                four.button()
        return
    told: list[Guess] = st.session_state.get(SCORE, [])
    guesses = firsts(told)
    last = told[-1] if told and told[-1].image == subject.name and session.current().step <= 1 else None
    if last:
        won = last.mine < last.encoder
        say = st.success if won else st.warning
        closer = t("Your Gaussian is closer.") if won else t("The encoder is closer.")
        say(f"{t('You: {mine} nats. Encoder: {other}.', mine=short(last.mine), other=short(last.encoder))} {closer}")
    led = bool(session.current().step)  # by the lesson, which says what comes next, and of a test image what it is
    if session.current().step == 1 and not last:  # shown without guessing: the step still asks for a guess
        st.button(t("Guess first"), icon=":material/visibility_off:", on_click=start, key="guess")
    if led and subject.index is not None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"{subject.sentence}.", width="content")
        if led or session.current().locked:
            return
        if last and images and len(guesses) < ROUNDS:
            st.button(t("Next image"), type="primary", on_click=_next, args=(images,), key="next-guess")
        st.button(
            t("Guess first"), icon=":material/visibility_off:", on_click=start, help=t(text.GUESS_HELP), key="guess"
        )
        if guesses or four.score():
            if fours:
                four.button()
            st.markdown(" ".join([*([_score(guesses)] if guesses else []), four.score()]))
            st.button(t("Start again"), on_click=_forget, key="no-guesses")


def _reveal(name: str, view: View) -> None:
    own = Guess(name, float(view.report[f"kl_{KEY}"]), float(view.report[f"kl_{view.stages[0].key}"]))
    st.session_state.setdefault(SCORE, []).append(own)
    session.update(guess=False)


def _next(images: int) -> None:
    """Another test image, by the number of guesses so far: the same game for everybody who starts at the same image."""
    seed = 7919 * (session.current().index + 1) + len(st.session_state[SCORE])
    index = int(np.random.default_rng(seed).integers(images))
    session.update(way="number", index=index, guess=True, mine=PRIOR, digit="all")


def _forget() -> None:
    st.session_state.pop(SCORE, None)
    four.forget()


def firsts(guesses: list[Guess]) -> list[Guess]:
    """The first guess of each image, in any order: whoever has seen the answer and goes back has not guessed again."""
    return list({one.image: one for one in reversed(guesses)}.values())


def _score(guesses: list[Guess]) -> str:
    won = sum(one.mine < one.encoder for one in guesses)
    mine, encoder = (median(kls) for kls in zip(*((one.mine, one.encoder) for one in guesses), strict=True))
    return t(text.SCORE, won=won, count=len(guesses), mine=short(mine), encoder=short(encoder))
