"""The lesson: its own page, and the panel above Explore that leads through it."""

from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app import session
from app.compute import View
from app.lesson import STEPS, Seen
from app.meter import short
from app.overlays import Overlay
from app.own import KEY
from app.state import State, lesson_query
from app.views import common, guess
from app.views.sources import draw_again
from app.words import t, words
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.diagnostics.stored import Columns

SEEN, DONE, HOME = "lesson-seen", "lesson-done", "lesson-home"  # since the step, and since the lesson began
PLACED_ON = "mine-of"  # the image on which the user's own Gaussian was placed
HONEST = 0.8  # of the mass: the regions whose promise is counted


def page() -> None:
    """What the lesson is, and its start."""
    ui = _words()["ui"]
    common.framed(ui["title"], ui["lead"], _contents, lesson_query)


def _words() -> dict[str, Any]:
    return words(session.current().language)


def _contents() -> None:
    ui, steps = _words()["ui"], _words()["step"]
    st.write(ui["lead"])
    if st.button(ui["start"], type="primary", icon=":material/school:", key="start-lesson"):
        start()
        st.switch_page(st.session_state["explore-page"])
    st.markdown("\n".join(f"{k}. **{step['title']}**: {step['sentence']}" for k, step in enumerate(steps, 1)))
    with st.expander(ui["words"], icon=":material/menu_book:", expanded=True):
        glossary()


def glossary() -> None:
    """Every term with its sentence."""
    st.markdown("\n".join(f"- **{term}**: {meaning}" for term, meaning in _words()["glossary"].items()))


def invitation() -> None:
    """The lesson's start on the first page of a narrow window, where the other pages stand behind a sign."""
    with st.container(key="to-lesson"):
        st.button(_words()["ui"]["start"], icon=":material/school:", on_click=start, key="start-here")


def start() -> None:
    """Begin the lesson, nothing of it done yet."""
    _forget()
    begin(1)


def _forget() -> None:
    for name in (HOME, DONE):
        st.session_state.pop(name, None)


def begin(step: int) -> None:
    """Set the page as the step wants it, and forget what was done before."""
    kept, state = st.session_state, session.current()
    elsewhere = kept.get(HOME, state.checkpoint) != state.checkpoint and STEPS[step - 1].home
    back = {"checkpoint": kept[HOME], "weights": "", "dataset": "", "index": -1} if elsewhere else {}
    session.update(step=step, **back, **{k: v for k, v in STEPS[step - 1].changes.items() if k not in back})
    kept.pop(PLACED_ON, None)  # one that the step places stands on whatever image it begins with
    kept[SEEN] = {"guesses": len(kept.get(guess.SCORE, []))}


def walked() -> None:
    """Note that a walk has arrived."""
    st.session_state.setdefault(SEEN, {})["walked"] = True


def panel(checkpoint: Checkpoint, view: View | None, columns: Columns) -> None:
    """The step's words, whether it is done, and the way on. ``view``: what the page shows, if anything."""
    state = session.current()
    if not 1 <= state.step <= len(STEPS):
        session.update(step=0)
        return
    st.session_state.setdefault(HOME, state.checkpoint)
    number, ui, step = state.step, _words()["ui"], _words()["step"][state.step - 1]
    seen = _seen(checkpoint, view, columns)
    done = _done(number, ui, seen)
    with st.container(border=True, key="lesson"):
        left, right = st.columns([3, 2], vertical_alignment="center")
        with left, st.container(key="lesson-words"):
            title = ui["step"].format(number=number, count=len(STEPS), title=step["title"])
            st.markdown(f"**{title}** · {step['sentence']}")
            if not done:
                st.markdown(f"**{ui['do']}:** {step['task']} :orange[{_open(ui, number, seen)}]")
            if state.way == "simulate":
                st.markdown(_kept_promises(ui))
            answered = done and _question(number, ui, step)
            if answered and number == len(STEPS):
                st.markdown(ui["finished"])
        right.latex(step["formula"])
        with right.container(horizontal=True, horizontal_alignment="center", vertical_alignment="center"):
            if state.way == "simulate":
                st.button(t("Another draw"), icon=":material/casino:", on_click=draw_again, key="lesson-draw")
            if number > 1:
                st.button(ui["back"], on_click=begin, args=(number - 1,), key="lesson-back")
            if number < len(STEPS):
                kind = "primary" if done else "secondary"
                st.button(ui["next"], type=kind, on_click=begin, args=(number + 1,), key="lesson-next")
            st.button(ui["leave"], on_click=_leave, key="lesson-leave")
            with st.popover(ui["words"]):
                glossary()


def _leave() -> None:
    session.update(step=0, guess=False)
    _forget()


def _done(number: int, ui: dict[str, str], seen: Seen) -> bool:
    """Whether the step's task was done since the lesson began; said once, where the panel may be out of sight."""
    done = st.session_state.setdefault(DONE, set())
    if number not in done and STEPS[number - 1].done(seen):
        done.add(number)
        st.toast(ui["told"].format(number=number), icon=":material/check:")
    return number in done


def _open(ui: dict[str, str], number: int, seen: Seen) -> str:
    """That something is left to do: how often it was done, how small the user's KL has to be, which s_x is there."""
    step = STEPS[number - 1]
    if step.count is not None:
        count, wanted = step.count
        return ui["times"].format(done=count(seen), wanted=wanted)
    if step.limit is not None and seen.kls is not None:
        return ui["below"].format(nats=short(step.limit(seen.kls)), own=short(seen.kls[0]))
    if step.noise and seen.noise is not None:
        return ui["noise"].format(value=short(seen.noise))
    return ui["open"]


def _kept_promises(ui: dict[str, str]) -> str:
    """How often the true z of the images drawn in this step lay in the regions that promise to hold it."""
    inside = list(st.session_state[SEEN].get("inside", {}).values())
    exact, encoder = (sum(column) for column in zip(*inside, strict=True)) if inside else (0, 0)
    return ui["inside"].format(exact=exact, encoder=encoder, count=len(inside))


def _question(number: int, ui: dict[str, str], step: dict[str, Any]) -> bool:
    """Three answers, turned so that the right one does not always stand first; whether one was chosen."""
    order = np.roll(np.arange(len(step["options"])), number)
    options = [step["options"][k] for k in order]
    answer = st.radio(
        f":green[{ui['done']}] **{ui['question']}:** {step['question']}",
        options,
        index=None,
        horizontal=True,
        key=f"answer-{number}-{session.current().language}",
    )
    if answer is not None:
        right = step["options"].index(answer) == step["answer"]
        st.markdown(f"**{ui['right' if right else 'wrong']}** {step['because']}")
    return answer is not None


def _seen(checkpoint: Checkpoint, view: View | None, columns: Columns) -> Seen:
    """What was done since the step began."""
    state, kept = session.current(), st.session_state.setdefault(SEEN, {})
    images, draws, ranks = (kept.setdefault(name, []) for name in ("images", "draws", "ranks"))
    if state.way not in ("draw", "upload", "simulate") and state.index not in images:
        images.append(state.index)
    if (rank := _rank(state, columns)) is not None and rank not in ranks:
        ranks.append(rank)
    if state.way == "simulate" and (state.seed, state.z) not in draws:
        draws.append((state.seed, state.z))
    if view is not None and view.truth is not None and view.truth_mass is not None:
        promises = (view.truth_mass <= HONEST, _mass_within(view.stages[0], view.truth) <= HONEST)
        kept.setdefault("inside", {})[state.seed, state.z] = promises
    return Seen(
        state,
        kls=_kls(view),
        images=max(len(images) - 1, 0),
        ranks=tuple(ranks),
        draws=max(len(draws) - 1, 0),
        guessed=len(st.session_state.get(guess.SCORE, [])) > kept.setdefault("guesses", 0),
        walked=kept.get("walked", False),
        noise=common.pixel_noise(checkpoint),
    )


def _mass_within(q: Overlay, z: NDArray[Any]) -> float:
    """The mass of the Gaussian that has q's moments within the ellipse through z: chi-squared with two degrees."""
    scaled = (z - q.mean) / q.std
    return float(1 - np.exp(-0.5 * scaled @ scaled))


def _kls(view: View | None) -> tuple[float, float, float] | None:
    if view is None or f"kl_{KEY}" not in view.report:
        return None
    r = view.report
    return float(r[f"kl_{KEY}"]), float(r[f"kl_{view.stages[0].key}"]), float(r["kl_best"])


def _rank(state: State, columns: Columns) -> float | None:
    """Share of the test images with a larger U(x)."""
    if "uncertainty" not in columns or state.way != "gallery" or not 0 <= state.index < len(columns["uncertainty"]):
        return None
    return float((columns["uncertainty"] > columns["uncertainty"][state.index]).mean())
