"""What the pages link to beside docs/: cards become pages of the site, and so does code, a line to an anchor."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)(?:#L(\d+))?\)")


def place(path: str) -> str:
    """Where the site keeps a file of the repository."""
    return f"beside/{path}" if path.endswith(".md") else f"beside/{path}.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file outside docs/ that a page links to."""
    pages = [file.content_string for file in files.documentation_pages()]
    for path in sorted({match[1] for text in pages for match in OUTSIDE.finditer(text)}):
        text = (ROOT / path).read_text()
        if not path.endswith(".md"):
            text = f'# {path}\n\n```python linenums="1"\n{text}```\n'
        files.append(File.generated(config, place(path), content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links there."""
    if page.file.src_uri.startswith("beside/"):  # a card's own links lead about the repository
        return re.sub(r"\[([^]]*)\]\(\.\.?/[^)]*\)", r"\1", markdown)
    return OUTSIDE.sub(lambda match: f"]({place(match[1])}{_anchor(match[2])})", markdown)


def _anchor(line: str | None) -> str:
    return f"#__codelineno-0-{line}" if line else ""
