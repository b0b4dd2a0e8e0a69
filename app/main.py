"""The router: streamlit run app/main.py."""

import streamlit as st

from app.text import FIGURES_TITLE, TITLE
from app.views import explore, figures

st.set_page_config(page_title=TITLE, layout="wide")
pages = [
    st.Page(explore.page, title="Explore", url_path="explore", default=True),
    st.Page(figures.page, title=FIGURES_TITLE, url_path="figures"),
]
st.navigation(pages, position="top").run()
