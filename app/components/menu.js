// In a narrow window the menu of pages lies over the page: a page chosen in it closes it, which Streamlit's own does not
// do. In a wide one there is no such menu, and so no such choice.

const INSTALLED = "gpvaeMenu";
const CHOICE = "[data-testid=stSidebarNavLink]";
const CLOSE = "[data-testid=stSidebarCollapseButton] button";

export default function mount({ data }) {
  document.documentElement.lang = data.language; // for who listens to the page
  if (window[INSTALLED]) return;
  window[INSTALLED] = true;
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(CHOICE)) setTimeout(() => document.querySelector(CLOSE)?.click()); // after the choice
  });
}
