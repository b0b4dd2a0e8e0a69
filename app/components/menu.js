// On a phone the menu of pages lies over the page: a page chosen in it closes it, which Streamlit's own does not do.

const INSTALLED = "gpvaeMenu";
const NARROW = "(max-width: 640px)"; // as in page.css
const CHOICE = "[data-testid=stSidebarNavLink]";
const CLOSE = "[data-testid=stSidebarCollapseButton] button";

export default function mount() {
  if (window[INSTALLED]) return;
  window[INSTALLED] = true;
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.(CHOICE) || !window.matchMedia(NARROW).matches) return;
    setTimeout(() => document.querySelector(CLOSE)?.click()); // after the choice itself
  });
}
