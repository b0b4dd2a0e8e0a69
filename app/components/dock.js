// On a narrow window the controls are a sheet that covers the lower part of it, and these buttons bring it and take it.
//
// The sheet is the page's own column of controls: page.css lays it there while OPEN stands on the page's root.

const OPEN = "sheet-open";
const PICTURE = ".st-key-plane";

export default function mount({ parentElement: root, data }) {
  const nav = root.querySelector(".dock") ?? root.appendChild(document.createElement("nav"));
  const page = document.documentElement;
  nav.className = "dock";
  nav.setAttribute("aria-label", data.label);
  const button = (words, pressed, act) => {
    const one = document.createElement("button");
    one.type = "button";
    one.textContent = words;
    if (pressed !== null) one.setAttribute("aria-expanded", String(pressed));
    one.addEventListener("click", act);
    return one;
  };
  const show = () => {
    const open = page.classList.contains(OPEN);
    nav.replaceChildren(
      button(data.picture, null, () => { page.classList.remove(OPEN); show(); document.querySelector(PICTURE)?.scrollIntoView({ block: "start" }); }),
      button(open ? data.close : data.controls, open, () => { page.classList.toggle(OPEN); show(); }),
    );
  };
  if (data.wanted && !nav.wanted) page.classList.add(OPEN);
  nav.wanted = data.wanted;
  show();
  return () => page.classList.remove(OPEN); // another page has no sheet
}
