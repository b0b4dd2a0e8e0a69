// The browser's history: one entry for each deliberate change, one for the whole way of a slider or a counter.
//
// Streamlit adds an entry whenever the script changes the address. Here the entry is replaced where the change comes
// from the same gesture as the entry itself, or from none at all: a page that completes its address when it opens.

const INSTALLED = "gpvaeHistory";
const GRADUAL = "[data-testid=stSlider], [data-testid=stNumberInput]";

export default function mount() {
  if (window[INSTALLED]) return;
  window[INSTALLED] = true;
  const push = history.pushState.bind(history);
  let gesture = Symbol("opening");
  let entry = gesture;
  // a control that moves in small steps counts as one gesture for as long as nothing else is touched
  const touched = (event) => { gesture = event.target.closest?.(GRADUAL) ?? Symbol("gesture"); };
  for (const kind of ["pointerdown", "keydown"]) window.addEventListener(kind, touched, true);
  window.addEventListener("popstate", () => { entry = gesture = Symbol("history"); }, true);
  history.pushState = (state, title, address) => {
    if (gesture === entry) return history.replaceState(state, title, address);
    entry = gesture;
    return push(state, title, address);
  };
}
