"""The lesson's steps, the score of guesses, and what is said of encoders: their rules, without a page."""

import numpy as np
import pytest

from app.lesson import PRIOR, STEPS, Seen, hidden, opened
from app.overlays import PLACES, places_of, style_of
from app.state import MOST_ENCODERS, State
from app.views.common import encoder_gaps
from app.views.guess import Guess, firsts
from app.views.shown import density

FEW = ["vlae", "gn", "svi"]
MANY = [f"encoder {k}" for k in range(PLACES + 3)]


def test_a_link_to_a_step_sets_the_page_as_the_step_before_would():
    assert opened(State(step=8)).way == "simulate"
    assert opened(State(step=10)).way == "draw"
    assert opened(State(step=1)).guess
    assert opened(State(step=7)).sort == "uncertainty"


def test_what_a_link_to_a_step_says_itself_stands():
    shared = State(step=8, way="number", index=3, mine=(0.0, 0.0, 1.0, 1.0))
    assert opened(shared) == shared
    for step in (0, -1, len(STEPS) + 1):
        assert opened(State(step=step)) == State(step=step)


def test_a_step_shows_what_it_or_one_before_it_explains():
    assert hidden(State()) == hidden(State(step=6)) == frozenset()
    assert hidden(State(step=1)) == hidden(State(step=3)) == {"best", "walk", "marginalised"}
    assert hidden(State(step=4)) == {"walk", "marginalised"} and hidden(State(step=5)) == {"marginalised"}


def test_steps_begin_undone_where_the_page_stands_when_they_begin():
    """With a Gaussian that was near the best one, on an image at an end of the order, and nothing of it moved."""
    assert not STEPS[6].done(Seen(State(step=7), ranks=(0.0,)))
    assert opened(State(step=4)).mine == PRIOR and opened(State(step=5)).mine is None


def test_an_image_that_is_guessed_again_counts_once():
    first, other, again = Guess("a", 3.0, 1.0), Guess("b", 1.0, 2.0), Guess("a", 0.5, 1.0)
    assert set(firsts([first, other])) == {first, other}
    assert set(firsts([first, other, again])) == {first, other}  # who guesses again has seen the answer


def test_the_encoders_gap_is_a_kl_whatever_else_is_stored():
    columns = {name: np.array([value]) for name, value in [("modes", 2.0), ("log_evidence", -3.0), ("kl_base", 0.2)]}
    assert encoder_gaps(columns).tolist() == [0.2]
    assert encoder_gaps({"modes": np.ones(1)}) is None


@pytest.mark.parametrize("offered", [FEW, MANY])
def test_an_encoder_keeps_its_style_when_others_join_and_no_two_share_one(offered):
    for one in offered:
        (alone,) = places_of([one], offered).values()
        assert style_of(one, alone) == style_of(one, offered.index(one))
    chosen = offered[:: max(1, len(offered) // MOST_ENCODERS)][:MOST_ENCODERS]
    styles = [style_of(name, place) for name, place in places_of(chosen, offered).items()]
    assert len(set(styles)) == len(chosen)
    assert places_of(offered[:1], offered).items() <= places_of(offered[:4], offered).items()


@pytest.mark.parametrize(("std", "most"), [(1.0, "-720"), (0.1, "1,085")])
def test_what_log_p_of_x_cannot_exceed_is_a_perfect_copys(std, most):
    assert f"below {most} nats" in density(784, std)  # 784 log N(0; 0, std^2), by hand
