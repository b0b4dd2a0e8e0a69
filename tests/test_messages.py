"""What anybody can send in the place of a component: it is taken as meant, or refused in one sentence."""

import pytest

from app import messages
from gpvae_core.errors import InputError

NUMBERS = [float("nan"), float("inf"), -float("inf"), 10**400, 10**5000, True, None, "1", "nan", [], {}, [[1]], b"1"]
FORGED = [
    *NUMBERS,
    *([1.0, value] for value in NUMBERS),
    *([0.0, 0.0, value, 1.0] for value in NUMBERS),
    [],
    [1.0],
    [1.0] * 100_000,
    {"0": 1.0},
    "<script>alert(1)</script>" * 1000,
    {"version": 1},
    {"version": 1.5, "strokes": []},
    {"version": "1", "strokes": []},
    {"version": 1, "strokes": None},
    {"version": 1, "strokes": {"a": 1}},
    {"version": 1, "strokes": [[[1]]]},
    {"version": 1, "strokes": [[["a", "b"]]]},
    {"version": 1, "strokes": [[[10**400, 1]]]},
    {"version": 1, "strokes": [[[1, 1]] * 100_000]},
]
DEEP: list = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "gate",
    [
        messages.point,
        messages.own,
        lambda message: messages.chosen(message, [0, 1, 2]),
        lambda message: messages.walk(message, ["encoder", "prior"]),
        messages.drawing,
    ],
    ids=["point", "own", "chosen", "walk", "drawing"],
)
def test_what_is_forged_is_a_sentence(gate):
    said = []
    for message in [*FORGED, DEEP, {"version": 1, "strokes": DEEP}]:
        try:
            gate(message)
        except InputError as error:
            said.append(str(error))
    assert len(said) >= len(FORGED) - 3
    assert not [sentence for sentence in said if len(sentence) > 400 or "<script" in sentence]


def test_what_is_meant_is_taken():
    assert messages.point([1.25, -0.5]) == (1.25, -0.5)
    assert messages.point([100, -1e9]) == (8.0, -8.0)
    assert messages.own([0, 1, 0.5, 2]) == (0.0, 1.0, 0.5, 2.0)
    assert messages.chosen(7, [3, 7]) == 7
    for wrong in ([["1", "2"]], [[True, False]], [[[[1, 2], [3, 4]]]], [[]] * 10**6):
        with pytest.raises(InputError):
            messages.drawing({"version": 1, "strokes": wrong})
    for version in (-1, 10**40):
        with pytest.raises(InputError):
            messages.drawing({"version": version, "strokes": []})
    assert messages.drawing({"version": 3, "strokes": [[[1, 2], [300, 4]]]}) == (3, [[(1, 2), (255, 4)]])
