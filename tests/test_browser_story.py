"""The story in a real Chromium: a Gaussian to drag, a guess to reveal, the lesson by keys alone, the map."""

import re

import pytest
from playwright.sync_api import expect

from app.compute import compute_view
from app.own import exact_elbo
from tests import pages
from tests.pages import finger, idle, lasso, place_of, settle, until

IMAGE = "?c=digits-2d&from=number&i=5&data=digits"


def grip(page, panel="zoom", part="centre"):
    return page.locator(f".panel-{panel} .grip.{part}")


def middle(locator) -> tuple[float, float]:
    box = place_of(locator)
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def depth_of(page, kind: str) -> float:
    """How far the column of that kind hangs, in px."""
    return float(page.locator(f".gap-column.{kind} .hang i").last.bounding_box()["height"])


def said_of(page, kind: str) -> float:
    return float(page.locator(f".gap-column.{kind} b").inner_text().replace(",", "").strip("≈ "))


def elbo_of(page, kind: str = "mine") -> float:
    return float(page.locator(f".gap-column.{kind} small").inner_text().removeprefix("ELBO ").strip("≈ "))


def mine_of(page) -> tuple[float, ...]:
    said = re.search(r"[?&]me=([^&]+)", page.url)
    return tuple(float(v) for v in said[1].replace("%2C", ",").split(",")) if said else ()


def kl_of(page) -> float:
    return float(
        re.search(r"Your KL: (?:about )?([\d.,]+)", page.locator(".own-text").inner_text())[1].replace(",", "")
    )


@pytest.fixture(scope="module")
def evidence(digits, digits_2d, digits_engine):
    pixels = digits.test.pixels(slice(5, 6))[0, 0].numpy()
    return pixels, compute_view(digits_2d, digits_engine, pixels).report["log_evidence"]


def test_a_dragged_gaussian_has_the_librarys_kl_by_mouse_and_by_keys(visit, digits_2d, evidence):
    page = visit(IMAGE)
    settle(page)
    page.get_by_role("button", name="drag to fill").click()
    grip(page).wait_for()
    idle(page)
    x, y = middle(grip(page))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 25, y - 20, steps=4)
    about = kl_of(page)
    until(page, "the column of yours", lambda: said_of(page, "mine") == about)
    assert "≈" in page.locator(".gap-column.mine").inner_text()
    followed = elbo_of(page)
    said = page.locator(".gap-column.mine small").inner_text().partition("≈ ")[2]
    assert f"Your ELBO: about {said} nats." in page.locator(".own-text").inner_text()
    page.mouse.up()
    page.locator(".own-text", has_text="exact").wait_for()
    idle(page)
    pixels, log_evidence = evidence
    first = mine_of(page)
    kl = log_evidence - exact_elbo(digits_2d, pixels, first, log_evidence).value
    assert kl_of(page) == pytest.approx(kl, rel=0.01, abs=0.02)
    assert about == pytest.approx(kl_of(page), rel=0.1, abs=0.3)
    assert followed == pytest.approx(log_evidence - kl, abs=0.1 * kl + 0.5)
    assert elbo_of(page) == pytest.approx(log_evidence - kl, abs=0.02 + 0.01 * kl)
    assert "≈" not in page.locator(".gap-column.mine").inner_text()
    assert "your Gaussian" in page.locator(".meter").inner_text()
    assert said_of(page, "mine") == pytest.approx(kl, rel=0.01, abs=0.02)
    deepest = max(depth_of(page, kind) for kind in ("mine", "overlay"))
    height = page.locator(".gap-column .hang").first.bounding_box()["height"]
    assert deepest <= height + 1
    base, tick = page.locator(".gap-column.overlay").first, page.locator(".gap-scale span").last
    depth = sum(bar.bounding_box()["height"] for bar in base.locator(".hang i").all())
    a_nat = depth / float(base.locator("b").inner_text().replace(",", ""))
    top = float(re.search(r"top: ?([\d.]+)%", tick.get_attribute("style"))[1]) / 100 * height
    assert top == pytest.approx(a_nat * float(tick.inner_text()), rel=0.03)  # a tick is as deep as its nats

    grip(page, part="first").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    until(page, "the wider Gaussian", lambda: mine_of(page) != first)
    idle(page)
    wider = mine_of(page)
    assert wider[2] > first[2] and wider[:2] == first[:2] and wider[3] == first[3]
    page.go_back()
    until(page, "Back to the first one", lambda: mine_of(page) == first)
    page.get_by_role("button", name="Put it on the prior").click()
    until(page, "the prior", lambda: mine_of(page) == (0.0, 0.0, 1.0, 1.0))
    idle(page)
    kl = log_evidence - exact_elbo(digits_2d, pixels, (0.0, 0.0, 1.0, 1.0), log_evidence).value
    assert kl_of(page) == pytest.approx(kl, rel=0.01)
    page.get_by_label("Which walk").select_option(label="from your Gaussian")
    until(page, "the walk in the link", lambda: "walk=mine" in page.url)
    idle(page)
    frame = page.locator(".panel-box path.window").get_attribute("d")
    page.get_by_label("Which walk").select_option(label="from the prior")
    page.get_by_role("button", name="Walk uphill from the prior").and_(page.locator(":enabled")).wait_for()
    idle(page)
    assert "walk=prior" in page.url and page.locator(".panel-box path.window").get_attribute("d") == frame
    page.get_by_role("button", name="Step").click()  # as wide as the user's own, which is there: it is seen whole
    ring, plane = (
        page.locator(f".panel-zoom {part}").bounding_box()
        for part in ("path.walk[data-mass='0.95']:not(.lens *)", ".frame")
    )
    assert plane["x"] <= ring["x"] and ring["x"] + ring["width"] <= plane["x"] + plane["width"]
    page.get_by_role("button", name="Clear yours").click()
    until(page, "no Gaussian", lambda: mine_of(page) == ())


def test_a_revealed_guess_is_in_the_window_with_its_grips_and_on_the_prior_too(visit):
    page = visit(IMAGE + "&guess=1&me=0.5,-2,0.4,0.5")

    def whole():
        frame = page.locator(".panel-zoom .frame").bounding_box()
        ring = page.locator(".panel-zoom path.mine[data-mass='0.95']:not(.lens *)").bounding_box()
        grips = page.locator(".panel-zoom .grip:visible").count()
        return grips == 3 and all(
            frame[at] <= ring[at] and ring[at] + ring[side] <= frame[at] + frame[side]
            for at, side in (("x", "width"), ("y", "height"))
        )

    until(page, "the guess", lambda: page.locator(".plane-root.veiled").count() > 0)
    idle(page)
    page.get_by_role("button", name="Reveal").click()
    settle(page)
    assert whole() and page.get_by_role("button", name="Fit all").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Posterior", exact=True).click()
    assert not whole()
    page.get_by_role("button", name="Put it on the prior").click()
    until(page, "the prior", lambda: mine_of(page) == (0.0, 0.0, 1.0, 1.0))
    idle(page)
    assert whole()


def test_a_guess_shows_what_it_decodes_to_and_nobodys_kl(visit):
    page = visit("?c=digits-2d&guess=1&me=0.5,-2,0.4,0.5&lang=en")
    until(page, "the guess", lambda: page.locator(".plane-root.veiled").count() > 0)
    tiles = page.locator(".gallery button")
    until(page, "the gallery", lambda: tiles.count() > 1)
    idle(page)
    assert not any(re.search(r"\d", text) for text in tiles.all_inner_texts())
    assert not any("KL" in tile.get_attribute("title") for tile in tiles.all())
    until(page, "the picture", lambda: pages.pixels(page, ".at-cursor canvas").max() > 100)
    expect(page.locator(".at-cursor figcaption")).to_have_text("decoded at your centre")
    page.get_by_role("button", name="Which of four?").click()
    four = page.get_by_role("dialog").locator(".gallery button")
    until(page, "the four images", lambda: four.count() == 4)
    assert not any(re.search(r"\d", text) for text in four.all_inner_texts())
    four.nth(1).press("Enter")
    until(page, "their gaps", lambda: all(re.search(r"\d", text) for text in four.all_inner_texts()))
    gaps = [float(text.replace(",", "")) for text in four.all_inner_texts()]
    found = "1 of 1" if gaps[1] == max(gaps) else "0 of 1"
    expect(page.get_by_role("dialog").get_by_text(f"Largest gap found: {found}.")).to_be_visible()
    page.keyboard.press("Escape")
    until(page, "the page", lambda: four.count() == 0)
    page.get_by_role("button", name="Reveal").click()
    settle(page)
    expect(page.get_by_text(re.compile("(Your Gaussian|The encoder) is closer"))).to_be_visible()
    expect(page.get_by_text(f"Largest gap found: {found}.")).to_be_visible()
    assert all(re.search(r"\d", text) for text in tiles.all_inner_texts())


def test_a_random_image_is_of_all_classes_until_one_is_chosen(visit):
    """The choice of a class stands in the gallery's own list, too, which nobody has opened here."""
    page = visit("?c=digits-2d")
    settle(page)
    page.get_by_role("radio", name="At random").click()
    idle(page)
    expect(page.get_by_role("radio", name="all", exact=True)).to_be_checked()
    first = page.url
    page.get_by_role("button", name="Another one").click()
    until(page, "another image", lambda: page.url != first)
    idle(page)
    expect(page.get_by_role("radio", name="all", exact=True)).to_be_checked()
    assert page.locator("[data-testid=stAlert]").count() == 0


def test_a_finger_drags_it_and_the_guess_is_revealed_and_counted(visit):
    page = visit(IMAGE + "&guess=1", "phone")
    until(page, "the grips", lambda: grip(page, "box").count() > 0 and grip(page, "box").is_visible())
    idle(page)
    assert page.locator(".plane-root path.line.exact").count() == 0 and page.locator(".meter").count() == 0
    grip(page, "box").scroll_into_view_if_needed()
    x, y = middle(grip(page, "box"))
    touch = finger(page)
    touch("touchStart", (x, y))
    touch("touchMove", (x + 12, y - 12))
    touch("touchMove", (x + 20, y - 20))
    touch("touchEnd")
    until(page, "the guess", lambda: mine_of(page)[:2] not in ((), (0.0, 0.0)))
    idle(page)
    page.get_by_role("button", name="Reveal").click()
    settle(page)
    expect(page.get_by_text(re.compile(r"You: [\d.,]+ nats\. Encoder: [\d.,]+"))).to_be_visible()
    expect(page.get_by_text(re.compile(r"[01] of 1"))).to_be_visible()


def press(page, name: str) -> None:
    """Press a button by the keyboard alone."""
    button = page.get_by_role("button", name=name, exact=True)
    button.focus()
    page.keyboard.press("Enter")
    idle(page, f"what '{name}' does")


def test_the_lesson_goes_by_keys_and_checks_what_is_done(visit):
    page = visit(path="lesson")
    page.get_by_role("button", name="Start the lesson").wait_for()
    idle(page)
    press(page, "Start the lesson")
    until(page, "the grips", lambda: grip(page, "box").count() > 0 and grip(page, "box").is_visible())
    panel = page.locator(".st-key-lesson")
    expect(panel).to_contain_text("Step 1 of 10")
    expect(panel).to_contain_text("Not done yet")
    expect(page.get_by_role("button", name="Reveal")).to_be_disabled()  # nothing was guessed yet
    grip(page, "box").focus()
    for _ in range(4):
        page.keyboard.press("ArrowUp")
    until(page, "the guess", lambda: mine_of(page)[1:2] > (0.1,))
    idle(page)
    press(page, "Reveal")
    settle(page)
    expect(panel).to_contain_text("Done")
    press(page, "Next")
    settle(page)
    expect(panel).to_contain_text("Step 2 of 10")
    expect(panel).not_to_contain_text("z has two coordinates")  # the question comes when the step is done
    assert page.locator("path.line.exact").count() and page.locator("path.line.base").count()
    assert page.locator("path.line.best, path.line.marginal").count() == 0  # they are explained later
    assert (
        page.locator(".gap-column").count() == 2 and page.get_by_role("button", name=re.compile("^Walk")).count() == 0
    )
    height = panel.bounding_box()["height"]
    whole = page.get_by_role("button", name="Whole plane", exact=True)
    whole.click()
    other = page.locator(".gallery button[aria-pressed=false]").first
    other.focus()
    other.press("Enter")
    page.get_by_text("z has two coordinates").wait_for()
    expect(whole).to_have_attribute("aria-pressed", "true")  # another image is seen in the window that was chosen
    assert panel.bounding_box()["height"] == pytest.approx(height, abs=2)  # nothing moves under a hand that drags
    page.get_by_text("z has two coordinates").click()
    idle(page)
    expect(panel).to_contain_text("Right.")
    assert "step=2" in page.url
    press(page, "Leave the lesson")
    until(page, "the lesson's end", lambda: "step=" not in page.url)


def test_a_shared_link_hides_the_controls_and_speaks_german(visit):
    page = visit(IMAGE + "&bare=1&lang=de")
    settle(page)
    assert not page.locator(".st-key-controls").is_visible()
    page.get_by_role("button", name="Teilen").click()
    expect(page.get_by_text("QR-Code des Links")).to_be_visible()
    expect(page.get_by_text("Ohne Regler")).to_be_visible()


def test_a_step_of_the_lesson_keeps_its_controls_whatever_the_link_says(visit):
    page = visit(IMAGE + "&bare=1&step=3&lang=de")
    settle(page)
    expect(page.locator(".st-key-controls")).to_be_visible()
    expect(page.locator(".st-key-lesson")).to_contain_text("Schritt 3 von 10: Die Lücke")
    page.get_by_role("button", name="Teilen").click()
    expect(page.get_by_text("me=").or_(page.get_by_text("step=3")).first).to_be_visible()
    expect(page.get_by_text("Ohne Regler")).to_have_count(0)


def test_a_language_chosen_at_the_foot_is_spoken_by_page_and_plane_and_kept_in_the_link(visit):
    page = visit(IMAGE)
    settle(page)
    page.get_by_role("button", name="Drag a Gaussian of your own").click()
    until(page, "the Gaussian", lambda: len(mine_of(page)) > 0)
    idle(page)
    expect(page.locator(".own-text")).to_contain_text("Your KL:")
    settle(page)
    page.locator(".st-key-language").get_by_role("radio", name="Deutsch").click()
    until(page, "German", lambda: "lang=de" in page.url)
    settle(page)
    expect(page.locator(".own-text")).to_contain_text("Ihre KL:")
    where = ".panel-zoom .axes text, .gap-top, .gap-column small, .own-text, .evidence b"
    numbers = page.locator(where).all_text_contents()
    assert any("," in said for said in numbers) and not any(re.search(r"\d\.\d", said) for said in numbers)
    expect(page.get_by_role("button", name="Ganze Ebene", exact=True)).to_be_visible()
    expect(page.locator(".headline")).to_contain_text("verfehlt die wahre Posteriorverteilung")
    assert page.locator("html").get_attribute("lang") == "de"
    assert page.locator(".plane-root").count() == 1 and page.locator(".plane-root").get_attribute("lang") == "de"
    page.get_by_role("link", name="Latente Karte").click()
    until(page, "the map", lambda: "/map" in page.url and "lang=de" in page.url)
    page.go_back()
    until(page, "Back", lambda: "/map" not in page.url)
    settle(page)
    page.locator(".st-key-language").get_by_role("radio", name="English").click()
    until(page, "English", lambda: "lang=" not in page.url)
    settle(page)
    expect(page.locator(".own-text")).to_contain_text("Your KL:")


def test_the_map_opens_an_image(visit):
    page = visit("?c=digits-2d", path="map")
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    until(page, "the map", lambda: plot.count() > 0)
    idle(page)
    lasso(page, plot, (0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98))
    tiles = page.locator(".gallery button")
    until(page, "the chosen images", lambda: tiles.count() > 0)
    tiles.first.click()
    settle(page, "the image that was opened")
    assert "/map" not in page.url and "from=number" in page.url


def test_the_posterior_is_turned_in_a_window_of_its_own(visit):
    page = visit(IMAGE)
    settle(page)
    before = pages.evidence(page)
    page.get_by_role("button", name="3-D").click()
    window = page.get_by_role("dialog")
    until(page, "the surface", lambda: window.locator(".js-plotly-plot canvas").count() > 0)
    page.keyboard.press("Escape")
    until(page, "the page without it", lambda: window.count() == 0)
    assert pages.evidence(page) == before and page.locator(".plane-root .line.exact").count() > 0
    page.get_by_role("button", name="Guess first").click()
    until(page, "the guess", lambda: page.locator(".plane-root.veiled").count() > 0)
    assert page.get_by_role("button", name="3-D").count() == 0
