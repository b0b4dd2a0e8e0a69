"""Every word of the app in every language: nothing missing, nothing left over, the same places in each sentence."""

import ast
import json
import re
from importlib import import_module
from pathlib import Path
from string import Formatter

import pytest

from app import text
from app.compute import BEST_LABEL
from app.coverage import EXACT
from app.figures.export import FORMATS
from app.meter import AMORTIZATION, APPROXIMATION, EVIDENCE, OWN, PARTS, brief, number, short
from app.state import WAYS
from app.views import common, latent_map, train
from app.words import FIRST, browser, languages, separators, speak, spoken, t, words
from gpvae_core.data.corruptions import AMOUNTS
from gpvae_core.data.recipes import RECIPES
from gpvae_core.diagnostics.scores import SCORES
from gpvae_core.inference import METHODS
from tests.test_app import opened

APP = Path(text.__file__).parent
OTHERS = [code for code in languages() if code != FIRST]
SAME = re.compile(r'\bt\("((?:[^"\\]|\\.)*)"')  # what a component's script says


def asked_for() -> set[str]:
    """The English of every ``t(...)`` of the app whose sentence stands there or in a constant of its module."""
    return {said for path in APP.rglob("*.py") if path.parent.name != "words" for said in _asked_for(path)}


def _asked_for(path: Path) -> set[str]:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    said = [call.args[0] for call in calls if _is_t(call.func) and call.args]
    said += [call.args[1] for call in calls if ast.unparse(call.func) == "partial" and _is_t(call.args[0])]
    if not said or path.name == "main.py":  # which is a script
        return set()
    module = vars(import_module(".".join(path.relative_to(APP.parent).with_suffix("").parts)))
    parts = [part for one in said for part in ((one.body, one.orelse) if isinstance(one, ast.IfExp) else (one,))]
    return {value for part in parts if isinstance(value := _value(part, module), str)}


def _is_t(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "t"


def _value(node: ast.expr, module: dict) -> object:
    try:
        return eval(compile(ast.Expression(node), "said", "eval"), dict(module))
    except (NameError, KeyError, AttributeError):
        return None  # only known when the page is drawn: one of ``named``


def named() -> set[str]:
    """What is looked up by a name, a key or a label: of scores, methods, stages, ways, pages ..."""
    found = {*text.PAGES.values(), *text.DOCK.values(), *WAYS.values(), *train.WORDS.values(), *train.NOISES}
    found |= {train.DIGITS, train.MNIST, train.OWN, *latent_map.GROUNDS.values(), *common.EXACT.values()}
    found |= {BEST_LABEL, OWN, EXACT, EVIDENCE, APPROXIMATION, AMORTIZATION, *PARTS.values(), common.ORDER}
    found |= {"ELBO {of}", "KL({label} ‖ p)", "KL(p ‖ {label})", "entropy of p(z|x)", "negentropy of p(z|x)"}
    found |= {"drawing", "image", "playlist"}  # of a link that is damaged
    found |= {"mean", "std", "Score, from left to right", *(form[0] for form in FORMATS.values())}
    for method in METHODS.values():
        found |= {method.label, *method.encoder.labels.values()}
    for score in SCORES.values():
        found |= {score.label, score.unit, score.meaning}
    for amount in AMOUNTS.values():
        found |= {amount.label, amount.unit}
    kept = {text.PICKED, text.MANY_PICKED, text.TEST_IMAGE, text.TEST_DIGIT, text.TEST_CLASS, text.CHOSEN, text.DRAWN}
    return (found | kept | {recipe.words for recipe in RECIPES.values()}) - {"0.3", "1"}


def places(sentence: str) -> set[tuple[str, str]]:
    """Which values a sentence has, and how they are written."""
    return {(name, spec or "") for _, name, spec, _ in Formatter().parse(sentence) if name is not None}


@pytest.mark.parametrize("code", OTHERS)
def test_every_sentence_is_translated_and_none_is_left_over(code):
    table, wanted = words(code)["text"], asked_for() | named()
    assert len(wanted) > 350 and wanted - table.keys() == set() and table.keys() - wanted == set()
    scripts = [*APP.glob("static/*.js"), *APP.glob("components/*.js")]
    said = {json.loads(f'"{one}"') for path in scripts for one in SAME.findall(path.read_text(encoding="utf-8"))}
    assert len(said) > 50 and said == words(code)["browser"].keys()


@pytest.mark.parametrize("code", OTHERS)
def test_a_translation_has_the_values_of_its_english(code):
    for table in (words(code)["text"], words(code)["browser"]):
        assert {english: places(said) for english, said in table.items()} == {one: places(one) for one in table}
        assert all(said.strip() for said in table.values())
        assert {one: one.count("</b>") for one in table} == {one: said.count("</b>") for one, said in table.items()}


def test_a_language_is_spoken_until_another_one_is_and_english_where_there_is_none():
    before = spoken()
    try:
        assert t("Reveal") == "Reveal" and browser() == {} and separators() == ".," and number(0.5) == "0.5"
        speak("de")
        assert t("Reveal") == "Aufdecken" and t("image {index}", index=3) == "Bild 3" and browser()["Step"] == "Schritt"
        assert t("{nats} of {count:,} in {this}", nats=0.5, count=1234, this="v1.5") == "0,5 of 1.234 in v1.5"
        assert (number(1234.5678, 0.01), short(0.25), brief(1234.5)) == ("1234,57", "0,25", "1.234")
        assert t("nobody has translated {this}", this="it") == "nobody has translated it"
        speak("../en")
        assert spoken() == FIRST and t("Reveal") == "Reveal"
    finally:
        speak(before)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("page", [{}, {"guess": "1"}, {"way": "draw"}, {"way": "simulate"}, {"vs": "image:3"}])
def test_a_page_in_german_has_no_english_sentence(page):
    table = words("de")["text"]
    foreign = {english for english, said in table.items() if english != said}
    shown = opened(lang="de", **page)
    assert not shown.exception and not shown.error
    kinds = ("button", "caption", "markdown", "subheader", "title", "selectbox", "slider", "toggle", "info")
    elements = [one for kind in kinds for one in shown.get(kind)]
    said = {str(getattr(one, what, "") or "") for one in elements for what in ("label", "value", "help")}
    assert {"Posterior-Labor", "Beamer"} <= said
    assert said & foreign == set()
