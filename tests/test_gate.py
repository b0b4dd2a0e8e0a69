"""What no browser sends by itself: dropped, said in one sentence, and the page goes on."""

import logging

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest, element_tree

from app import gate, text
from app.views import explore, picking
from tests.test_app import opened

UNFORESEEN = gate.unforeseen  # which other tests do without: an error of the page is theirs
FORGED = {
    "no number": ("index", {"double_value": float("nan")}),
    "infinite": ("index", {"double_value": float("inf")}),
    "text for a number": ("index", {"string_value": "1; DROP TABLE"}),
    "no choice": ("way", {"string_array_value": []}),
    "two of one choice": ("way", {"json_value": "[[["}),
    "a number for a switch": ("projector", {"int_value": 3}),
    "a language that is none": ("language", {"double_value": 1e300}),
}


def widget(page: AppTest, name: str) -> str:
    """Streamlit's id of the page's widget of this name in the state."""
    state = page.session_state._state._state
    return next(key for key in state._new_widget_state.widget_metadata if key.endswith(f"-{name}"))


def forged(identity: str, fields: dict) -> WidgetState:
    made = WidgetState(id=identity)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(made, name).data.extend(value)
            getattr(made, name).SetInParent()
        else:
            setattr(made, name, value)
    return made


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_value_is_dropped_and_the_page_goes_on(case, monkeypatch, caplog):
    page = opened(**{"from": "number", "i": "5", "data": "digits"})
    name, fields = FORGED[case]
    one = forged(widget(page, name), fields)
    honest = element_tree.ElementTree.get_widget_states

    def with_it(tree):
        states = honest(tree)
        kept = [state for state in states.widgets if state.id != one.id]
        del states.widgets[:]
        states.widgets.extend([*kept, one])
        return states

    monkeypatch.setattr(element_tree.ElementTree, "get_widget_states", with_it)
    page.run()
    assert not page.exception and not page.error
    monkeypatch.undo()
    page.run()
    assert not page.exception and not page.error
    assert page.query_params["i"] == "5" and page.query_params["from"] == "number"


def test_what_nobody_foresaw_is_one_sentence_with_a_way_back(monkeypatch, caplog):
    page = opened(**{"from": "number", "i": "5", "data": "digits"})

    def fails() -> None:
        raise ZeroDivisionError("of the test")

    monkeypatch.setattr(gate, "unforeseen", UNFORESEEN)
    monkeypatch.setattr(explore, "_explore", fails)
    with caplog.at_level(logging.ERROR):
        page.run()
    assert not page.exception
    assert [error.value for error in page.error] == [text.UNFORESEEN]
    assert "ZeroDivisionError: of the test" in caplog.text
    monkeypatch.undo()
    page.button(key="start-again").click().run()
    assert not page.exception and not page.error


@pytest.mark.parametrize(
    "event",
    [
        None,
        5,
        {},
        {"selection": 5},
        {"selection": {}},
        {"selection": {"points": None}},
        {"selection": {"points": "abc"}},
        {"selection": {"points": [1, None, [], {"customdata": True}, {"customdata": 99}, {"customdata": "3"}]}},
    ],
)
def test_a_forged_selection_holds_no_image(event):
    assert picking.chosen(event, 10) == []
    assert picking.chosen({"selection": {"points": [{"customdata": 3}]}}, 10) == [3]
