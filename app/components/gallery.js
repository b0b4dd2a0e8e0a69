// Thumbnails in a row, each a button: mouse, finger and tab key choose one.

const SIDE = 28;

export default function mount({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".gallery");
  const pixels = Uint8Array.from(atob(data.tiles), (c) => c.charCodeAt(0));
  const focused = root.getRootNode().activeElement?.dataset?.place;
  root.replaceChildren(...data.items.map((item, place) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    canvas.setAttribute("aria-hidden", "true");
    const context = canvas.getContext("2d");
    const image = context.createImageData(SIDE, SIDE);
    for (let k = 0; k < SIDE * SIDE; k++) {
      const value = pixels[place * SIDE * SIDE + k];
      image.data.set([value, value, value, 255], 4 * k);
    }
    context.putImageData(image, 0, 0);
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.place = place;
    button.title = button.ariaLabel = item.title;
    button.setAttribute("aria-pressed", String(item.index === data.chosen));
    const caption = document.createElement("span");
    caption.textContent = item.caption;
    button.append(canvas, caption);
    button.addEventListener("click", () => {
      for (const other of root.children) other.setAttribute("aria-pressed", String(other === button));
      setTriggerValue("chosen", item.index);
    });
    return button;
  }));
  if (focused !== undefined) root.children[focused]?.focus({ preventScroll: true });
}
