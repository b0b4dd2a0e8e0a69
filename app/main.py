"""The router: streamlit run app/main.py."""

import streamlit as st

from app import first_paint
from app.text import FIGURES_TITLE, TITLE

st.set_page_config(page_title=TITLE, layout="wide")
first = st.empty()
if first_paint.wanted():
    first_paint.show(first)

from app.views import explore, figures  # noqa: E402  torch comes with them: the first picture must not wait for it

explore.warm_up()
first.empty()
pages = [
    st.Page(explore.page, title="Explore", url_path="explore", default=True),
    st.Page(figures.page, title=FIGURES_TITLE, url_path="figures"),
]
st.navigation(pages, position="top").run()
