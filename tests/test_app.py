"""The pages without a browser, through AppTest; numbers against the library's."""

import json
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from app import batching, drawing, loaders
from app.compute import compute_view, compute_views
from app.meter import (
    gap_meter,
    number_rows,
)
from app.payload import plane_data
from app.state import State, to_query
from app.views.sources import simulate
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import ImageSet, bernoulli_draw
from gpvae_core.data.corruptions import Corruption
from gpvae_core.data.images import to_model_input
from gpvae_core.data.recipes import recipe_of
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.exact.best_gaussian import Step
from gpvae_core.paths import grid_cache
from gpvae_core.shipped import manifest
from tests.test_state import STROKES

# --- the pages ------------------------------------------------------------------------------------------------


def opened(**query) -> AppTest:
    test = AppTest.from_file("../app/main.py", default_timeout=120)
    for key, value in {"c": "digits-2d", **query}.items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    return test


@pytest.mark.usefixtures("offline")
def test_without_controls_nothing_changes_the_page_but_a_lesson_has_its_controls():
    def named(test):
        return {one.label for kind in ("toggle", "button") for one in test.get(kind)}

    image = {"from": "number", "i": "5", "data": "digits"}
    changing = {"Projector", "Guess first"}
    assert changing <= named(opened(**image)) and not changing & named(opened(bare="1", **image))
    assert "Projector" in named(opened(bare="1", step="9", **image))


@pytest.mark.usefixtures("offline")
def test_what_takes_long_is_a_preview_first_and_the_exact_posterior_then(monkeypatch):
    go = Event()

    def slow(*arguments):
        loaders._batcher().pause()
        assert go.wait(60)
        return compute_views(*arguments[:5])

    monkeypatch.setattr(batching, "LONG", 0.0)
    monkeypatch.setattr(loaders, "trusted_views", slow)
    monkeypatch.setattr(loaders, "_renews", lambda: True)
    page = opened(**to_query(State(way="draw", strokes=drawing.encode(STROKES))))
    said = [one.value for one in page.info]
    assert any("**Preview.**" in one for one in said) and not any("log p(x)" in one.value for one in page.markdown)
    go.set()
    page.session_state[loaders.ASKED].asked.future.result(60)
    assert not page.run().exception
    assert not page.info and any("exact log p(x)" in one.value for one in page.markdown)
    assert loaders.ASKED not in page.session_state


@pytest.mark.usefixtures("offline")
def test_a_score_is_not_held_against_itself():
    test = AppTest.from_function(difficulty_page, default_timeout=120)
    test.query_params.update({"c": "digits-2d", "sort": "kl_base", "y": "kl_base"})
    test.run()
    across, up = (next(s for s in test.selectbox if what in s.label) for what in ("left to right", "upwards"))
    assert not test.exception and across.value == "kl_base" != up.value
    assert len(up.options) == len(across.options) - 1


def difficulty_page() -> None:
    from app import session
    from app.views import difficulty

    session.enter("difficulty")
    difficulty.page()


def shown(test: AppTest) -> dict[str, str]:
    table = next(m.value for m in test.markdown if "exact log p(x)" in m.value)
    cells = [line.replace("\\|", "/").split("|")[1:3] for line in table.splitlines()[2:]]
    return {name.strip().replace("/", "|"): value.strip() for name, value in cells}


def says(test: AppTest, view) -> None:
    """The page shows each number of ``view``, to half a unit of the last digit that it shows."""
    texts = shown(test)
    wanted = {name: (value, error) for name, value, error in number_rows(view)}
    assert texts.keys() == wanted.keys()
    for name, (value, error) in wanted.items():
        unit = 10.0 ** -len(texts[name].partition(".")[2])
        assert float(texts[name]) == pytest.approx(value, abs=0.51 * unit + 0.1 * error + 1e-4), name


@pytest.mark.usefixtures("offline")
def test_the_page_shows_the_librarys_numbers(digits, digits_2d, digits_engine):
    page = opened()
    page.segmented_control(key="explore-way").set_value("number").run()
    page.number_input(key="explore-index").set_value(5).run()
    assert not page.exception
    wanted = compute_view(digits_2d, digits_engine, digits.test.pixels(slice(5, 6))[0, 0].numpy())
    says(page, wanted)
    assert page.query_params == {
        "c": "digits-2d",
        "w": digits_2d.digest[:8],
        "from": "number",
        "data": "digits",
        "i": "5",
    }


@pytest.mark.usefixtures("offline")
def test_a_drawing_a_dial_and_a_simulation_come_back_from_their_links(digits_2d, digits_engine):
    dial = Corruption(rotate=20, noise=0.1, seed=4)
    drawn = dial(recipe_of("digits").prepare(drawing.picture(STROKES), "it", None).image.astype(np.float32) / 255)
    simulated, z = simulate(digits_2d, 3, (0.5, -1.25))
    for state, pixels, truth in (
        (State(way="draw", strokes=drawing.encode(STROKES), corruption=dial), drawn, None),
        (State(way="simulate", seed=3, z=z), simulated, z),
    ):
        page = opened(**to_query(state))
        wanted = compute_view(digits_2d, digits_engine, pixels, truth)
        says(page, wanted)
        assert not [w.value for w in page.warning if "link" in w.value]


@pytest.mark.usefixtures("offline")
def test_the_gallery_ascends_in_any_score_and_filters_by_class(digits, digits_2d):
    for name in ("uncertainty", "residual", "kl_base"):
        page = opened(sort=name)
        ranks = []
        for rank in (0, 100, 358):
            page.slider(key="explore-rank").set_value(rank).run()
            ranks.append(int(page.query_params["i"]))
        values = stored_columns(digits_2d, "digits", len(digits.test))[name]
        assert values[ranks[0]] == values.min() and values[ranks[2]] == values.max()
        assert values[ranks[0]] <= values[ranks[1]] <= values[ranks[2]]
    page.pills(key="explore-digit-gallery").set_value("4").run()
    assert not page.exception
    assert any(", digit 4" in m.value for m in page.markdown)
    assert page.slider(key="explore-rank").max == (digits.test.labels == 4).sum() - 1


@pytest.mark.usefixtures("offline")
def test_random_images_change_on_demand():
    page = opened(**{"from": "random"})
    seen = set()
    for _ in range(4):
        next(b for b in page.button if b.label == "Another one").click().run()
        seen.add(page.query_params["i"])
    assert len(seen) > 1


@pytest.mark.usefixtures("offline")
def test_side_by_side_shows_both_images_numbers(digits, digits_2d, digits_engine):
    page = opened(**{"from": "number", "i": "5", "data": "digits", "vs": "image:7"})
    *tables, differences = [m.value for m in page.markdown if "exact log p(x)" in m.value]
    found = []
    for table, index in zip(tables, (5, 7), strict=True):
        wanted = compute_view(digits_2d, digits_engine, digits.test.pixels(slice(index, index + 1))[0, 0].numpy())
        found.append(wanted.report["log_evidence"])
        assert f"| exact log p(x) | {found[-1]:.3f} |" in table
    left, right = found
    assert f"| exact log p(x) | {left:.3f} | {right:.3f} | {right - left:+.3f} |" in differences
    other = opened(**{"from": "number", "i": "5", "data": "digits", "vs": "checkpoint:mnist-2d"})
    assert sum("exact log p(x)" in m.value for m in other.markdown) == 3


@pytest.mark.usefixtures("offline")
def test_stale_links_are_named():
    page = opened(c="gone-2d", data="mnist", i="17", w="00000000", digit="z", sort="beauty", **{"from": "gallery"})
    said = " ".join(w.value for w in page.warning)
    for part in (
        "no checkpoint 'gone-2d'",
        "shows test image 17 of 'mnist'",
        "no digit class 'z'",
        "sorted by 'beauty'",
    ):
        assert part in said
    page = opened(c="digits-2d", w="deadbeef", i="5", data="digits", **{"from": "number"})
    assert "other weights of digits-2d (deadbeef)" in " ".join(w.value for w in page.warning)
    next(b for b in page.button if b.label == "Dismiss").click().run()
    assert not any("deadbeef" in warning.value for warning in page.warning)


@pytest.mark.usefixtures("offline")
def test_the_page_says_why_it_shows_the_digits():
    page = opened()
    assert any("test images of **digits**" in c.value for c in page.caption)
    assert any("no connection to" in m.value or "could not be downloaded" in m.value for m in page.markdown)


@pytest.mark.usefixtures("offline")
def test_the_last_picture_is_kept_for_the_next_start_but_nobodys_own(tmp_path, digits_2d):
    opened(**{"from": "simulate", "seed": "1"})
    assert not list(tmp_path.rglob("first/*.json"))
    opened(**{"from": "number", "i": "5", "data": "digits"})
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("first/*.json")]
    assert records and all(
        r["plane"]["digest"] == digits_2d.digest and "image 5" in r["sentence"].lower() for r in records
    )


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", list(manifest()))
def test_every_shipped_checkpoint_has_its_page(name):
    page = opened(c=name)
    assert not page.exception
    assert not [e.value for e in page.error]
    assert np.isfinite(float(shown(page)["exact log p(x)"]))


@pytest.mark.usefixtures("offline")
def test_a_bernoulli_model_is_shown_a_draw_of_a_grey_image_and_the_page_says_so():
    checkpoint = load_checkpoint("binary-mnist-2d")
    page = opened(**to_query(State(checkpoint="binary-mnist-2d", way="draw", strokes=drawing.encode(STROKES))))
    assert not page.exception
    assert any("one draw (seed 0)" in m.value for m in page.markdown)
    grey = to_model_input(drawing.picture(STROKES), "it").astype(np.float32) / 255
    drawn = bernoulli_draw(ImageSet(grey[None]), 0).pixels()[0, 0].numpy()
    assert set(np.unique(drawn)) == {0, 1}
    wanted = compute_view(checkpoint, checkpoint.engine(cache=grid_cache()), drawn)
    says(page, wanted)


@pytest.mark.usefixtures("offline")
def test_the_dial_names_the_empty_image_that_it_makes():
    for occlude, named in (("28", True), ("4", False)):
        page = opened(**{"from": "number", "i": "5", "data": "digits", "occlude": occlude})
        assert any("The dial has made an empty image" in w.value for w in page.warning) == named


# --- another checkpoint -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("offline")
def test_the_test_image_stays_where_the_other_checkpoint_has_the_same_images():
    page = opened(c="mnist-2d", i="17", data="digits", **{"from": "number"})
    for name in ("mnist-2d-wide", "digits-2d", "binary-mnist-2d"):  # offline each shows the digits, some of them drawn
        page.selectbox(key="explore-checkpoint").set_value(name).run()
        assert not page.exception and not page.error and not page.warning
        assert page.query_params["i"] == "17" and any("Test image 17" in m.value for m in page.markdown)


def test_another_data_set_starts_at_its_own_image_without_a_complaint(data_dir):
    if not (data_dir / "omniglot.npz").exists():
        pytest.skip("needs OMNIGLOT: put omniglot.npz into GPVAE_DATA_DIR")
    loaders.source.clear()  # other tests have found no MNIST
    page = opened(c="mnist-2d", i="17", data="mnist", digit="7", sort="kl_base")
    page.selectbox(key="explore-checkpoint").set_value("mnist-2d-wide").run()
    assert page.query_params["i"] == "17" and not page.warning
    page.selectbox(key="explore-checkpoint").set_value("omniglot-2d").run()
    assert not page.exception and not page.warning
    assert page.query_params["data"] == "omniglot" and page.query_params["i"] != "17"
    loaders.source.clear()


# --- other encoders ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(digits, digits_2d, digits_engine):
    """An image, what searches on it, and its view with all of them."""
    pixels = digits.test.pixels(slice(4, 5))[0, 0].numpy()
    others = [(name, digits_2d.with_method(name)) for name in ("svi", "gn", "savae")]
    return pixels, others, compute_view(digits_2d, digits_engine, pixels, others=others)


def test_other_encoders_stand_beside_the_checkpoints_own(searched, digits_2d, digits_engine):
    pixels, others, view = searched
    alone = compute_view(digits_2d, digits_engine, pixels)
    assert [q.key for q in view.overlays] == ["base", "marginal", "svi", "gn", "savae", "best"]
    assert [q.key for q in view.stages] == ["base", "marginal"]
    assert len({(q.style.colour, q.style.dash) for q in view.overlays}) == 6
    x = torch.as_tensor(pixels)[None, None]
    exact = digits_engine.posterior(x)
    for name, opened in others:
        wanted = exact.kl_from(opened.infer(x).q[0])
        error = wanted.error + view.report[f"kl_{name}_error"] + alone.report["log_evidence_error"]
        assert view.report[f"kl_{name}"] == pytest.approx(wanted.value, abs=error)
    assert view.report["kl_gn"] < 0.1 * view.report["kl_marginal"]
    # the gap of a diagonal Gaussian has two parts, that of another q is whole
    html = gap_meter(view)
    parts = view.report["amortization_gap_svi"] + view.report["approximation_gap"]
    assert parts == pytest.approx(view.report["kl_svi"], abs=1e-3) and "amortization_gap_gn" not in view.report
    assert 'aria-label="Gauss-Newton search: KL' in html and html.count('class="undivided"') == 1
    assert "undivided" not in gap_meter(alone)


def test_a_method_that_looks_step_by_step_is_walked(searched, digits_engine):
    pixels, others, view = searched
    x = torch.as_tensor(pixels)[None, None]
    exact = digits_engine.posterior(x)
    assert set(view.paths) == {"svi", "gn", "savae"}
    for name, opened in others:
        steps, said = view.paths[name], opened.infer(x)
        for step, q in ((steps[0], said.start[0]), (steps[-1], said.q[0])):
            np.testing.assert_allclose(step.mean, q.mean_and_std()[0].numpy())
            wanted = exact.elbo(q)
            assert step.elbo == pytest.approx(wanted.value, abs=2e-3 + 2 * wanted.error)
    assert (np.diff([step.elbo for step in view.paths["svi"]]) > -1e-4).all()
    first, *more = plane_data(view, "digest", "it")["walks"]
    assert first["name"] == "to the best Gaussian" and [walk["name"] for walk in more] == [
        f"along {next(q.label for q in view.overlays if q.key == name)}" for name in view.paths
    ]
    for walk, steps in zip(more, view.paths.values(), strict=True):
        shown = walk["path"]
        assert 3 <= len(shown) <= 10
        for sent, step in ((shown[0], steps[0]), (shown[1], steps[1]), (shown[-1], steps[-1])):
            a, b, c = sent["tril"]
            factor = np.array([[a, 0], [b, c]])
            np.testing.assert_allclose(factor @ factor.T, step.covariance, rtol=1e-9, atol=1e-15)


def test_a_walk_that_ends_beyond_the_decoders_arithmetic_is_sent_all_the_same(searched):
    _, _, view = searched
    flat = [Step(np.zeros(2), np.diag([1.0, 0.0]), 1.0), Step(np.ones(2), np.zeros((2, 2)), -np.inf)]
    *_, walk = plane_data(replace(view, paths={"svi": flat}), "digest", "it")["walks"]
    assert json.dumps(walk, allow_nan=False) and [step["tril"] for step in walk["path"]] == [[1, 0, 0], [0, 0, 0]]


@pytest.mark.usefixtures("offline")
def test_a_link_draws_encoders_and_names_those_that_are_not_there():
    page = opened(**{"c": "digits-2d", "from": "number", "i": "4", "data": "digits", "q": "gn,me-7"})
    assert any("There is no encoder 'me-7' on digits-2d" in warning.value for warning in page.warning)
    assert "KL(Gauss-Newton search ‖ p)" in shown(page) and page.query_params["q"] == "gn"
    next(box for box in page.checkbox if box.label.startswith("SVI")).check().run()
    assert "KL(SVI, image by image ‖ p)" in shown(page) and set(page.query_params["q"].split(",")) == {"svi", "gn"}
    next(box for box in page.checkbox if box.label.startswith("Gauss-Newton")).uncheck().run()
    assert "KL(Gauss-Newton search ‖ p)" not in shown(page) and page.query_params["q"] == "svi"
