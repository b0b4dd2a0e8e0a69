// On a narrow window the controls are a sheet that covers the lower part of it, and these buttons bring it and take it.
//
// The sheet is the page's own column of controls: page.css lays it there while OPEN stands on the page's root. From the
// first choice on until it is closed it is LOW: the plane is seen above it, and one may go on choosing.

const OPEN = "sheet-open";
const LOW = "sheet-low";
const PICTURE = ".st-key-plane";
const PAPER = ".st-key-sheet";
const TALL = 220; // px: then all of it is there
const STILL = 12; // frames in which nothing has moved it
const PATIENCE = 1200; // frames until it has to be there
const AFTER = 60; // frames in which what comes later may push it away again
const NARROW = "(max-width: 900px)"; // as in page.css
const MOVING = "moving"; // on the page's root while a part is brought into sight

// Bring a part into sight once it is there and stands still: the server takes a moment. Who touches the page moves it alone.
function reveal(part, block) {
  let [left, still, before] = [PATIENCE, 0, null];
  if (!matchMedia(NARROW).matches) return; // everything stands beside the controls
  const root = document.documentElement;
  const stop = () => { left = 0; };
  root.dataset[MOVING] = part;
  for (const kind of ["pointerdown", "wheel", "keydown"]) window.addEventListener(kind, stop, { once: true, capture: true, passive: true });
  const watch = () => {
    const found = document.querySelector(part);
    const { height, top } = found?.getBoundingClientRect() ?? {};
    still = height > TALL && top === before ? still + 1 : 0;
    before = top;
    if (still === STILL) {
      found.scrollIntoView({ block });
      left = Math.min(left, AFTER);
    }
    if (left-- > 0) requestAnimationFrame(watch);
    else if (root.dataset[MOVING] === part) delete root.dataset[MOVING];
  };
  watch();
}

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
      button(open ? data.close : data.controls, open, () => { page.classList.remove(LOW); page.classList.toggle(OPEN); show(); }),
    );
  };
  if (data.wanted && !nav.wanted) {
    page.classList.add(OPEN);
    reveal(PAPER, "nearest");
  }
  nav.wanted = data.wanted;
  if (nav.shown !== undefined && data.shown !== nav.shown && page.classList.contains(OPEN)) {
    page.classList.add(LOW);
    document.activeElement?.scrollIntoView({ block: "nearest" }); // what was chosen stays under the finger
    reveal(PICTURE, "start");
  }
  nav.shown = data.shown;
  show();
  return () => page.classList.remove(OPEN, LOW); // another page has no sheet
}
