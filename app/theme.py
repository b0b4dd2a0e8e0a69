"""What the figures share: the masses of the regions, Okabe-Ito colours and line styles, and the page's own CSS."""

from pathlib import Path

MASSES = (0.5, 0.8, 0.95)
COLOURS = {"exact": "#555555", "truth": "#007A59"}  # of each q: app/overlays.py
PROJECTOR = """html {font-size: 21px; --around: 17.2rem} html:has(.st-key-lesson) {--around: 23rem}
/* the plane has the room of the title, which the menu of pages has, too */
@media (min-width: 1280px) {
  html:has(.st-key-plane) h1 {display: none}
  html:has(.st-key-plane) .stHorizontalBlock:has(> .stColumn .st-key-top) {min-height: 0}
}"""


def css(name: str) -> str:
    """The text of a style sheet beside this file."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


BARE = ".stColumn:has(.st-key-controls) {display: none}"


def page_style(projector: bool, *, bare: bool = False) -> str:
    """The page's CSS; in projector mode everything that Streamlit sets in rem grows with it. ``bare``: no controls."""
    return f"<style>{css('page.css')}{PROJECTOR if projector else ''}{BARE if bare else ''}</style>"
