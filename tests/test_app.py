"""The app without a browser: figures as data, the page through AppTest, and its numbers against the library's."""

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from app.compute import compute_view
from app.figures import base_gaussian, box_figure, ellipse, marginal_gaussian, strip_figure, zoom_figure, zoom_window
from app.theme import MASSES
from gpvae_core.gaussian import DiagonalGaussian
from gpvae_core.report import posterior_report


@pytest.fixture(scope="module")
def view(digits, digits_2d, digits_engine):
    return compute_view(digits_2d, digits_engine, digits.test.images[2])


def test_ellipses_hold_their_mass(generator):
    q = base_gaussian(np.array([0.3, -1.0]), np.array([0.2, 0.05]))
    gaussian = DiagonalGaussian(torch.tensor(q.mean), torch.tensor(q.std))
    draws = gaussian.rsample(100_000, generator=generator).numpy()
    for mass in MASSES:
        x, y = ellipse(q, mass)
        radius = np.hypot((x - q.mean[0]) / q.std[0], (y - q.mean[1]) / q.std[1])
        assert np.ptp(radius) < 1e-9
        inside = np.hypot(*((draws - q.mean) / q.std).T) < radius[0]
        assert inside.mean() == pytest.approx(mass, abs=0.006)


def test_contours_drawn_hold_the_mass_they_are_labelled_with(view):
    """Probability summed over the lattice above each drawn level."""
    density = np.exp(view.zoom_log_density)
    cell = (view.zoom_first[1] - view.zoom_first[0]) * (view.zoom_second[1] - view.zoom_second[0])
    for mass, level in zip(MASSES, view.levels, strict=True):
        assert density[view.zoom_log_density > level].sum() * cell == pytest.approx(mass, abs=0.02)


def test_zoom_figure_draws_every_density_at_every_mass_and_tells_them_apart_without_colour(view):
    figure = zoom_figure(view.zoom_first, view.zoom_second, view.zoom_log_density, view.levels, view.gaussians)
    lines = [t for t in figure.data if t.type == "scatter" and t.mode == "lines"]
    drawn = {(t.name, t.meta["mass"]) for t in lines}
    assert drawn == {(n, m) for n in ("exact p(z|x)", "base encoder", "marginalised q(z|x)") for m in MASSES}
    assert len({(t.line.dash, t.line.width) for t in lines if t.name != "exact p(z|x)"}) == 2
    assert {a.text for a in figure.layout.annotations} == {"50%", "80%", "95%"}
    assert len(figure.to_json()) < 150_000


def test_box_figure_shows_nats_below_the_maximum(view):
    low, high = np.array([-1.0, -1.0]), np.array([1.0, 1.0])
    figure = box_figure(view.box_axis, view.box_log_joint, view.gaussians, low, high)
    shown = np.asarray(figure.data[0].z)
    wanted = np.log10(1 + view.box_log_joint.max() - view.box_log_joint)[::2, ::2].T
    np.testing.assert_allclose(shown, wanted, rtol=1e-5)
    assert len(figure.to_json()) < 150_000


def test_window_holds_the_mass_and_names_what_it_leaves_out():
    near = base_gaussian(np.array([0.1, 0.1]), np.array([0.01, 0.01]))
    far = marginal_gaussian(np.array([3.0, 0.0]), np.array([0.01, 0.01]))
    low, high, left_out = zoom_window(np.array([-0.05, -0.05]), np.array([0.05, 0.05]), [near, far])
    assert left_out == ["marginalised q(z|x)"]
    assert (low < -0.05).all()
    assert (high > near.mean + 2.45 * near.std).all()
    assert high[0] < 1


def test_strip_marks_the_chosen_image(digits):
    figure = strip_figure(digits.test.images[:4], list("abcd"), list("abcd"), 2)
    assert figure.data[0].z.shape == (28, 4 * 31 - 3)
    assert len(figure.layout.shapes) == 1
    assert figure.layout.shapes[0].x0 == 2 * 31 - 0.5


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page without MNIST and without a network."""
    monkeypatch.setenv("GPVAE_DATA_DIR", str(tmp_path))
    for scheme in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")
    test = AppTest.from_file("../app/main.py", default_timeout=120).run()
    assert not test.exception
    return test


def shown_numbers(page: AppTest) -> dict[str, float]:
    table = next(m.value for m in page.markdown if "exact log p(x)" in m.value)
    rows = [line.replace("p(z\\|x)", "p(z x)").split("|")[1:3] for line in table.splitlines()[2:]]
    return {name.strip(): float(value) for name, value in rows}


def test_the_page_shows_the_librarys_numbers(page, digits, digits_2d, digits_engine):
    page.segmented_control[0].set_value("By number").run()
    page.number_input[0].set_value(5).run()
    assert not page.exception
    report = posterior_report(digits_engine, digits_2d.model, digits.test.pixels(slice(5, 6)))
    shown = shown_numbers(page)
    wanted = ("log_evidence", "elbo_base", "kl_base", "elbo_marginal", "kl_marginal")
    for value, key in zip(shown.values(), wanted, strict=True):
        assert value == pytest.approx(report[key], abs=6e-4)


def test_the_gallery_ascends_in_u_and_filters_by_class(page, digits):
    strip = next(m.value for m in page.markdown if "Test image" in m.value)
    assert "above 0 % of the test set" in strip
    page.pills[0].set_value(4).run()
    assert not page.exception
    assert ", a 4" in next(m.value for m in page.markdown if "Test image" in m.value)
    assert page.slider[0].max == (digits.test.labels == 4).sum() - 1


def test_random_images_change_on_demand(page):
    page.segmented_control[0].set_value("At random").run()
    seen = set()
    for _ in range(4):
        page.button[0].click().run()
        seen.add(next(m.value for m in page.markdown if "Test image" in m.value))
    assert len(seen) > 1


def test_the_page_says_why_it_shows_the_digits(page):
    assert any("test images of **digits**" in c.value for c in page.caption)
    assert any("no connection to" in m.value or "could not be downloaded" in m.value for m in page.markdown)
