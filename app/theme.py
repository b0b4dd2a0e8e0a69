"""Colours (Okabe-Ito) and line styles: the methods differ in both."""

BASE_COLOUR = "#D55E00"
MARGINAL_COLOUR = "#0072B2"
POSTERIOR_COLOUR = "#444444"
BASE_DASH = "dash"
MARGINAL_DASH = "solid"
FONT_SIZE = 15
MASSES = (0.5, 0.8, 0.95)
COMPACT = """<style>
.stMainBlockContainer {padding-top: 1.5rem; padding-bottom: 2rem}
h1 {padding: 0; font-size: 1.9rem}
</style>"""
