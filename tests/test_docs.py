"""README and docs/: they show the results, their examples run, their links lead somewhere, README is short."""

import re
from pathlib import Path
from statistics import median

import pytest

from benchmarks.common import markdown
from benchmarks.tables import TABLES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHORT = [page for page in PAGES if page.name != "CONTRIBUTING.md"]
EXAMPLES = [
    (page.name, block) for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
]


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_an_example_runs_and_prints_a_number_with_its_error(page, code, capsys):
    exec(compile(code, page, "exec"), {})
    assert re.search(r"-?\d+\.\d+ nats, error (about) \de-\d\d", capsys.readouterr().out)


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_on_the_pages_are_the_results(table):
    shown = markdown(TABLES[table]())
    assert any(shown in page.read_text() for page in PAGES), "python -m benchmarks.tables prints them"


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"https?:", target):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), target
            assert not anchor or re.fullmatch(r"L\d+", anchor) or anchor in anchors(there), target


def test_links_into_the_code_lead_to_the_lines_that_they_name():
    page = ROOT / "docs/method.md"
    found = re.findall(r"\[`([\w.]+)`\]\(\.\./([^)#]+)#L(\d+)\)", page.read_text())
    assert len(found) >= 15
    for name, path, number in found:
        lines = (ROOT / path).read_text().splitlines()
        head = re.compile(rf"\s*(def|class) {name.split('.')[-1]}\b")
        there = [k for k, line in enumerate(lines, 1) if head.match(line)]
        assert int(number) in there, f"{name} is at {path}:{there}, not at {number}"


# words that only this project uses so, or that a stranger may not know: defined in method.md, and linked where used
DEFINED = ("nat", "ELBO", "KL", "gap", "amortization gap", "approximation gap", "IWAE-K", "mode", "hill", "trunk")
DEFINED += ("settled", "gain", "width", "given width", "negentropy")
NEED_LINK = ("hill", "trunk", "settl", "negentropy", "given width", "IWAE")
BANNED = ("stands by itself", "drown", "lean on", "leans on", "dissolve", "unkind", "cries wolf", "to pay", "all miss")
BANNED += ("basin", "knob", "takes what it gets wrong")


def test_words_of_our_own_are_defined_and_linked():
    glossary = (ROOT / "docs/method.md").read_text().split("## Words")[1]
    for word in DEFINED:
        assert f"**{word}**" in glossary, word
    for page in SHORT:
        text = page.read_text()
        used = [word for word in NEED_LINK if word in text]
        assert page.name == "method.md" or not used or "method.md" in text, f"{page.name} uses {used}"
        assert [word for word in BANNED if word in text] == [], page.name


def sentences(text: str) -> list[int]:
    """How many words each sentence has, code, tables, pictures and headings left out."""
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    kept = [line for line in prose.splitlines() if not re.match(r"\s*(\||#|!\[)", line)]
    joined = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", "\n".join(kept))
    parts = re.split(r"(?<=[.:?!])\s+(?=[A-Z`*0-9-])|\n\s*\n|\n(?=- |\d\. )", joined)
    return [len(part.split()) for part in parts if part.split()]


def test_readme_is_one_page_of_short_sentences():
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 8_000
    assert median(sentences(text)) <= 16
    assert median(n for page in SHORT for n in sentences(page.read_text())) <= 16


@pytest.mark.parametrize("page", SHORT, ids=lambda page: page.name)
def test_no_sentence_of_a_page_is_longer_than_35_words(page):
    assert max(sentences(page.read_text())) <= 35
