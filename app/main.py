"""The router: streamlit run app/main.py."""

import streamlit as st

from app.text import TITLE
from app.views import explore

st.set_page_config(page_title=TITLE, layout="wide")
st.navigation([st.Page(explore.page, title="Explore", url_path="explore", default=True)], position="hidden").run()
