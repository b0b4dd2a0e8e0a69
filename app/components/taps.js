// Plotly chooses the dot under the cursor, and a finger has none: so each touch on a chart first points at its place.

function point({ target, touches: [touch] }) {
  if (!target.matches?.(".js-plotly-plot .nsewdrag")) return;
  const { clientX, clientY } = touch;
  target.dispatchEvent(new MouseEvent("mousemove", { bubbles: true, clientX, clientY }));
}

export default function mount() {
  document.addEventListener("touchstart", point, { capture: true, passive: true }); // the same one again adds nothing
  return () => document.removeEventListener("touchstart", point, { capture: true });
}
