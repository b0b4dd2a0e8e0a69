"""A teacher's playlist: what goes into a link comes out of it, and what comes damaged gets a sentence."""

import json

import pytest
from playwright.sync_api import expect

from app.drawing import to_text
from app.playlist import LONGEST_NOTE, MOST_SCENES, Scene, decode, encode, scene_of
from app.state import from_query, to_query
from gpvae_core.errors import InputError
from tests.pages import evidence, idle, settle, until

FIRST = {"c": "digits-2d", "from": "number", "i": "5", "data": "digits"}
SECOND = {"c": "digits-2d", "from": "number", "i": "7", "data": "digits", "q": "gn"}


def test_scenes_survive_the_link_and_a_scene_never_holds_the_list():
    scenes = [scene_of({**FIRST, "play": "x", "scene": "1"}, "  ask first: *who* is right?  "), Scene(SECOND, "")]
    assert decode(encode(scenes)) == (Scene(FIRST, "ask first: *who* is right?"), Scene(SECOND, ""))
    state, problems = from_query({**FIRST, "play": encode(scenes), "scene": "1"})
    assert problems == [] and from_query(to_query(state)) == (state, [])
    assert encode([]) == ""


@pytest.mark.parametrize(
    "text",
    [
        "!",
        "",
        encode([Scene(FIRST, "")])[:-6],
        to_text(b"[]"),
        to_text(b"{}"),
        to_text(b"[[1, 2]]"),
        to_text(b"[[{}]]"),
        to_text(b"[" * 5000),
        to_text(json.dumps([[FIRST, "x" * (LONGEST_NOTE + 1)]]).encode()),
        to_text(json.dumps([[FIRST, ""]] * (MOST_SCENES + 1)).encode()),
        to_text(json.dumps([[{"play": "x"}, ""]]).encode()),
        to_text(b" " * 10_000_000),
    ],
)
def test_a_damaged_list_is_a_sentence(text):
    with pytest.raises(InputError, match="playlist"):
        decode(text)
    state, problems = from_query({"play": text} | FIRST)
    assert state.playlist == "" and state.index == 5 and len(problems) == 1 and "playlist" in problems[0]


def test_a_teacher_makes_a_list_and_a_class_goes_through_it(visit):
    page = visit("?" + "&".join(f"{key}={value}" for key, value in FIRST.items()))
    settle(page)
    first = evidence(page)
    page.get_by_role("button", name="Share").click()
    page.get_by_text("Make a playlist").click()
    page.get_by_label("Note to the speaker").fill("who is right?")
    page.get_by_role("button", name="Add as scene 1").click()
    page.get_by_role("button", name="Add as scene 2").wait_for()
    idle(page)
    page.keyboard.press("Escape")
    field = page.get_by_role("spinbutton", name="Number of the test image")
    field.fill("7")
    field.press("Enter")
    until(page, "the other image", lambda: evidence(page) not in ("", first))
    settle(page)
    second = evidence(page)
    page.get_by_role("button", name="Share").click()
    page.get_by_text("Make a playlist").click()
    page.get_by_role("button", name="Add as scene 2").click()
    page.get_by_role("button", name="Add as scene 3").wait_for()
    idle(page)
    link = next(text for text in page.get_by_test_id("stCode").all_inner_texts() if "play=" in text)

    class_page = visit("?" + link.strip().partition("?")[2], "phone")
    settle(class_page)
    assert evidence(class_page) == first
    expect(class_page.get_by_text("who is right?")).to_be_visible()
    expect(class_page.get_by_role("button", name="Previous scene")).to_be_disabled()
    class_page.get_by_role("button", name="Next scene").click()
    until(class_page, "the second scene", lambda: evidence(class_page) == second)
    idle(class_page)
    expect(class_page.get_by_text("who is right?")).to_have_count(0)
    expect(class_page.get_by_role("button", name="Next scene")).to_be_disabled()
    class_page.go_back()
    until(class_page, "the first scene again", lambda: evidence(class_page) == first)
    class_page.get_by_role("button", name="Leave the playlist").click()
    until(class_page, "a link without it", lambda: "play=" not in class_page.url)

    hidden = visit("?" + link.strip().partition("?")[2] + "&bare=1")
    settle(hidden)
    assert hidden.get_by_text("who is right?").count() == 0 and hidden.get_by_text("Scene 1 of 2").count() == 1
