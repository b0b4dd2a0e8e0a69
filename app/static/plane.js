// The latent plane: exact posterior, encoders and best Gaussian over one another, decoded under the cursor.
//
// One ES module without imports. Streamlit mounts it as a component; an exported page mounts it by itself. Everything
// after mounting happens here, so hovering, toggling, zooming and playing go on when the server is gone.

const MASSES = [0.5, 0.8, 0.95];
const SIDE = 28;
const ATLASES = "gpvaeAtlases"; // window[ATLASES]: checkpoint digest -> atlas of the whole box
const VIRIDIS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37],
];
// Around a region, nearest to the wanted side first; then the same farther out: [turn, label heights away].
const PLACES = [0, 0.7].flatMap((out) =>
  [0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7, 8].map((k) => [(k * Math.PI) / 8, out]));
const PREFERRED = { 0.5: 0, 0.8: -Math.PI / 2, 0.95: Math.PI / 2 }; // each mass another side of its region
const NAMED_AT = Math.PI / 2;
const REACH = 2.6; // standard deviations of a q that a window holds: the edge of its 95 % region, and a little more
const GROUND = 0.3; // how dark the decoded ground is, of the ink's own
const SVG = "http://www.w3.org/2000/svg";
let words = {}; // what the page says, by its English, where it speaks another language
let decimal = "."; // what it writes before decimals: a point, or a comma, and then a point between thousands

export default function mount({ data, parentElement, setTriggerValue }) {
  let root = parentElement.querySelector(".plane-root");
  ({ words, decimal } = data);
  if (root?.lang !== data.language) { // its buttons were made in another language
    root?.remove();
    root = element("div", { class: "plane-root", lang: data.language });
    parentElement.append(root);
    root.plane = new Plane(root);
  }
  root.plane.pick = (z) => setTriggerValue("picked", z);
  root.plane.tell = (mine) => setTriggerValue("mine", mine);
  root.plane.choose = (walk) => setTriggerValue("walk", walk);
  root.plane.show(data);
}

// --- small helpers ---------------------------------------------------------------------------------------------

const t = (english, values = {}) => (words[english] ?? english).replace(/\{(\w+)\}/g, (_, name) => values[name]);
const written = (number) => (decimal === "." ? number : number.replace(/[.,]/g, (mark) => (mark === "." ? "," : ".")));
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function vector(tag, attributes = {}) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

// The page's theme may change at any time; what the lines stand on decides.
function isDark(node) {
  const [r, g, b] = getComputedStyle(node).getPropertyValue("background-color").match(/[\d.]+/g).map(Number);
  return 0.3 * r + 0.6 * g + 0.1 * b < 128;
}

const TILE = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
const RULER = document.createElement("canvas").getContext("2d");

// Width of a text in px.
function widthOf(content, size, family, weight = 400) {
  RULER.font = `${weight} ${size}px ${family}`;
  return RULER.measureText(content).width;
}

const meet = (a, b) => a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;
const around = (x, y, dx, dy = dx) => ({ x0: x - dx, x1: x + dx, y0: y - dy, y1: y + dy });

const sameWindow = (a, b) => [a.half - b.half, a.centre[0] - b.centre[0], a.centre[1] - b.centre[1]].every((d) => Math.abs(d) < 1e-6 * a.half);

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// Contour lines come as uint16 pairs within their window, to keep a change of image small.
function unpackLines(packed) {
  const raw = bytes(packed.points);
  const pairs = new Uint16Array(raw.buffer);
  const [low, high] = [packed.low, packed.high];
  const lines = [];
  let start = 0;
  for (const length of packed.runs) {
    const line = [];
    for (let k = start; k < start + length; k++) {
      line.push([0, 1].map((axis) => low[axis] + (pairs[2 * k + axis] / 65535) * (high[axis] - low[axis])));
    }
    lines.push(line);
    start += length;
  }
  return lines;
}

// How a q looks, for the style sheet: on a light page, on a dark one, over the heat map.
function look({ colour, dark, bright, dash }) {
  return `--light:${colour};--dark:${dark};--bright:${bright};--dash:${dash};stroke-linecap:${dash.startsWith("1.5") ? "round" : "butt"}`;
}

// ``tril``: the Cholesky factor of a covariance, row by row; without one ``std`` along the axes.
function ellipse(q, mass) {
  const radius = Math.sqrt(-2 * Math.log(1 - mass));
  const [a, b, c] = q.tril ?? [q.std[0], 0, q.std[1]];
  return Array.from({ length: 91 }, (_, k) => {
    const angle = (2 * Math.PI * k) / 90;
    const [x, y] = [radius * Math.cos(angle), radius * Math.sin(angle)];
    return [q.mean[0] + a * x, q.mean[1] + b * x + c * y];
  });
}

function niceTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const several = (step) => Math.floor(high / step) > Math.ceil(low / step);  // one tick alone is no scale
  const steps = [0.5, 1, 2, 5, 10].map((f) => f * power).filter(several);
  const step = steps.find((s) => s >= 0.8 * rough) ?? steps.at(-1);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) ticks.push([k * step, written((k * step).toFixed(digits))]);
  return ticks;
}

// 1,000 as such, larger powers of ten as 10⁵.
function decade(n) {
  return n <= 10000 ? written(n.toLocaleString("en")) : `10${String(Math.round(Math.log10(n))).replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d])}`;
}

// Decoded means on a lattice; between the nodes the four around are mixed.
class Atlas {
  constructor(tiles, nodes, low, high) {
    Object.assign(this, { tiles, nodes, low, high });
  }

  holds(z) {
    return [0, 1].every((axis) => z[axis] >= this.low[axis] && z[axis] <= this.high[axis]);
  }

  decode(z) {
    const place = [0, 1].map((axis) =>
      clamp(((z[axis] - this.low[axis]) / (this.high[axis] - this.low[axis])) * (this.nodes - 1), 0, this.nodes - 1));
    const node = place.map((p) => Math.min(Math.floor(p), this.nodes - 2));
    const share = place.map((p, axis) => p - node[axis]);
    const mixed = new Float32Array(SIDE * SIDE);
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const weight = (i ? share[0] : 1 - share[0]) * (j ? share[1] : 1 - share[1]);
      const start = ((node[0] + i) * this.nodes + node[1] + j) * SIDE * SIDE;
      for (let k = 0; k < SIDE * SIDE; k++) mixed[k] += weight * this.tiles[start + k];
    }
    return mixed;
  }
}

// White ink on black, as the model sees it.
function paint(canvas, pixels) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  for (let k = 0; k < SIDE * SIDE; k++) image.data.set([pixels[k], pixels[k], pixels[k], 255], 4 * k);
  context.putImageData(image, 0, 0);
}

function picture(name, pixels) {
  const canvas = element("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": name });
  paint(canvas, pixels);
  return canvas;
}

function heatImage(nodes, colour) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = nodes;
  const context = canvas.getContext("2d");
  const image = context.createImageData(nodes, nodes);
  for (let i = 0; i < nodes; i++) {
    for (let j = 0; j < nodes; j++) image.data.set(colour(i * nodes + j), 4 * ((nodes - 1 - j) * nodes + i));
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function viridis(share) {
  const place = clamp(share, 0, 1) * (VIRIDIS.length - 1);
  const k = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[k].map((c, channel) => c + (place - k) * (VIRIDIS[k + 1][channel] - c));
}

// --- one panel: a square window on the plane ------------------------------------------------------------------------

class Panel {
  constructor(plane, name, heading) {
    this.plane = plane;
    this.name = name;
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.svg = vector("svg", { "aria-hidden": "true" });
    this.stage = element("div", {
      class: "stage", tabindex: "0", role: "application", "aria-roledescription": "latent plane",
    }, this.canvas, this.svg);
    this.heading = element("h2", {}, heading);
    const buttons = element("div", { class: "zoom-buttons" });
    this.windows = name === "zoom" ? this.windowButtons() : [];
    this.turn = element("button", { type: "button", hidden: "", title: t("log p(z|x) as a surface, to be turned") }, "3-D");
    this.turn.addEventListener("click", () => plane.tell("turn"));
    for (const [sign, label, act] of [
      ["−", t("zoom out"), () => this.scale(1.5)],
      ["+", t("zoom in"), () => this.scale(1 / 1.5)],
      ["⟲", t("whole window again"), () => this.reset()],
    ]) {
      const button = element("button", { type: "button", "aria-label": `${heading}: ${label}`, title: label }, sign);
      button.addEventListener("click", act);
      buttons.append(button);
    }
    this.root = element("section", { class: `panel panel-${name}` },
      element("header", {}, this.heading, ...(this.windows.length ? [element("div", { class: "windows" }, ...this.windows, this.turn)] : []), buttons), this.stage);
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  // What the larger panel can be asked to hold.
  windowButtons() {
    return [
      [t("Fit all"), t("the posterior and every encoder"), () => this.fit()],
      [t("Posterior"), t("the posterior alone"), () => this.plane.mass],
      [t("Whole plane"), t("as much of it as was decoded"), () => this.plane.panels.box.home],
    ].map(([label, title, wanted]) => {
      const button = element("button", { type: "button", title }, label);
      button.wanted = wanted;
      button.addEventListener("click", () => {
        this.look({ ...wanted() });
        this.chosen = wanted; // kept for the next image, until one zooms or moves
      });
      return button;
    });
  }

  show(home, alt) {
    this.renewed = JSON.stringify(home) !== JSON.stringify(this.home);
    this.home = home;
    if (this.renewed) this.view = this.fit();
    this.stage.setAttribute("aria-label", `${alt} ${t("Arrow keys move the point that is decoded, plus and minus zoom, escape leaves.")}`);
  }

  // The window that it has by itself, with every q, the user's own Gaussian and the one on a walk.
  fit() {
    const held = this.name === "zoom" ? this.plane.held() : [];
    if (!held.length) return { ...this.home };
    const { centre, half } = this.home;
    const ends = [0, 1].map((axis) => [-1, 1].map((side) =>
      side * Math.max(side * centre[axis] + half, ...held.map((one) => side * one.centre[axis] + one.halves[axis]))));
    return { centre: ends.map(([low, high]) => (low + high) / 2), half: Math.max(...ends.map(([low, high]) => high - low)) / 2 };
  }

  reset() {
    this.look(this.fit());
  }

  scale(factor, about = null) {
    const { centre, half } = this.view;
    const wide = clamp(half * factor, this.home.half * 1e-3, 6);
    const fixed = about ?? centre;
    this.look({ half: wide, centre: [0, 1].map((axis) => fixed[axis] + ((centre[axis] - fixed[axis]) * wide) / half) });
  }

  look(view, announce = true) {
    this.chosen = null;
    this.view = view;
    this.draw();
    if (this.name === "zoom") this.plane.panels.box.draw(); // where it shows what this one shows
    if (announce) this.plane.tellLinked(this);
  }

  // --- geometry

  // The height follows from the width alone: longer labels on the axis make the square smaller, and move nothing else.
  measure() {
    const size = this.stage.clientWidth;
    const style = getComputedStyle(this.stage);
    const [unit, family] = [parseFloat(style.fontSize), style.fontFamily];
    const usual = size - 4.2 * unit;
    const count = clamp(Math.floor(usual / (5 * unit)), 2, 6);
    const ticks = [0, 1].map((axis) => niceTicks(this.view.centre[axis] - this.view.half, this.view.centre[axis] + this.view.half, count));
    const widths = ticks.map((several) => several.map(([, label]) => widthOf(label, 0.85 * unit, family)));
    const left = Math.max(3.4 * unit, Math.max(...widths[1]) + 10);
    const [top, bottom] = [1.9 * unit, 3.3 * unit];
    const height = top + usual + bottom;
    this.frame = { left, top, side: size - left - 0.8 * unit, unit, family, size, height, ticks, widths };
    return this.frame.side > 20;
  }

  x(value) {
    return this.frame.left + ((value - this.view.centre[0]) / this.view.half + 1) * 0.5 * this.frame.side;
  }

  y(value) {
    return this.frame.top + (1 - (value - this.view.centre[1]) / this.view.half) * 0.5 * this.frame.side;
  }

  at(event) {
    const box = this.stage.getBoundingClientRect();
    const place = [event.clientX - box.left - this.frame.left, event.clientY - box.top - this.frame.top];
    return [
      this.view.centre[0] + (2 * place[0] / this.frame.side - 1) * this.view.half,
      this.view.centre[1] - (2 * place[1] / this.frame.side - 1) * this.view.half,
    ];
  }

  inside(z) {
    return [0, 1].every((axis) => Math.abs(z[axis] - this.view.centre[axis]) <= this.view.half);
  }

  // --- drawing

  draw() {
    if (!this.view || !this.measure()) return;
    this.plane.root.classList.toggle("dark", isDark(this.plane.root));
    const { left, top, side, size, height } = this.frame;
    const ratio = window.devicePixelRatio || 1;
    this.stage.style.height = `${height}px`;
    this.canvas.width = Math.round(side * ratio);
    this.canvas.height = Math.round(side * ratio);
    Object.assign(this.canvas.style, { left: `${left}px`, top: `${top}px`, width: `${side}px`, height: `${side}px` });
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.drawGround(context);
    for (const heat of this.plane.heats(this.name)) {
      const [x0, y0] = [this.x(heat.low[0]) - left, this.y(heat.high[1]) - top];
      const step = (this.x(heat.high[0]) - this.x(heat.low[0])) / (heat.image.width - 1);
      // a node is the middle of its pixel
      context.drawImage(heat.image, x0 - step / 2, y0 - step / 2, step * heat.image.width, step * heat.image.width);
    }
    this.svg.setAttribute("viewBox", `0 0 ${size} ${height}`);
    const clip = `clip-${this.plane.id}-${this.name}`;
    const clipPath = vector("clipPath", { id: clip });
    clipPath.append(vector("rect", { x: left, y: top, width: side, height: side }));
    this.marks = vector("g", { "clip-path": `url(#${clip})` });
    this.own = vector("g", { "clip-path": `url(#${clip})` });
    this.cursor = vector("g", { "clip-path": `url(#${clip})`, class: "cursor" });
    this.svg.replaceChildren(clipPath, this.axes(), this.marks, this.own, this.cursor);
    this.loupe = Loupe.over(this);
    for (const mark of this.plane.marks(this)) this.marks.append(mark);
    if (this.loupe) this.marks.append(this.loupe.draw());
    this.drawOwn();
    this.drawCursor();
    if (this.name === "box") this.plane.drawScale();
    for (const button of this.windows) button.setAttribute("aria-pressed", String(sameWindow(button.wanted(), this.view)));
  }

  // What the plane decodes to, faint, in as many tiles as the eye can read.
  drawGround(context) {
    if (!this.plane.shown("ground")) return;
    const { side, unit } = this.frame;
    const count = clamp(Math.floor(side / (2.3 * unit)), 4, 15);
    const tile = side / count;
    const ink = this.plane.root.classList.contains("dark") ? 0xffffff : 0;
    const brush = TILE.getContext("2d");
    const image = brush.createImageData(SIDE, SIDE);
    const words = new Uint32Array(image.data.buffer); // a pixel is one number: alpha, blue, green, red
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < count; j++) {
        const at = (k, axis) => this.view.centre[axis] + (2 * (k + 0.5) / count - 1) * this.view.half;
        const pixels = this.plane.decoded([at(i, 0), at(j, 1)]);
        if (!pixels) continue;
        for (let k = 0; k < SIDE * SIDE; k++) words[k] = ((GROUND * pixels[k]) << 24) | ink;
        brush.putImageData(image, 0, 0);
        context.drawImage(TILE, i * tile, side - (j + 1) * tile, tile, tile);
      }
    }
  }

  axes() {
    const { left, top, side, unit, ticks, widths } = this.frame;
    const group = vector("g", { class: "axes" });
    group.append(vector("rect", { x: left, y: top, width: side, height: side, class: "frame" }));
    const text = (x, y, content, anchor) => {
      const node = vector("text", { x, y, "text-anchor": anchor });
      node.textContent = content;
      group.append(node);
    };
    let free = -Infinity;
    ticks[0].forEach(([value, label], k) => {
      const x = this.x(value);
      group.append(vector("line", { x1: x, x2: x, y1: top + side, y2: top + side + 4 }));
      if (x - widths[0][k] / 2 < free) return; // the tick stays, its label would run into the one before
      text(x, top + side + 1.65 * unit, label, "middle");
      free = x + widths[0][k] / 2 + 0.4 * unit;
    });
    for (const [value, label] of ticks[1]) {
      group.append(vector("line", { x1: left - 4, x2: left, y1: this.y(value), y2: this.y(value) }));
      text(left - 7, this.y(value) + 0.33 * unit, label, "end");
    }
    text(left + side / 2, top + side + 2.95 * unit, "z₁", "middle");
    text(left - 7, top - 0.95 * unit, "z₂", "end");
    return group;
  }

  path(points, attributes) {
    return this.paths([points], attributes);
  }

  paths(lines, attributes) {
    const drawn = (points) => points.map((z, k) => `${k ? "L" : "M"}${this.x(z[0]).toFixed(1)} ${this.y(z[1]).toFixed(1)}`).join("");
    return vector("path", { d: lines.map(drawn).join(""), fill: "none", ...attributes });
  }

  // A label at the edge of a region: on the side it prefers (an angle), else around it, else farther out; inside the
  // frame, off every box of ``taken``, and off ``avoided`` where that can be had. Null where there is no such place.
  label(points, content, prefers, taken, avoided) {
    const { left, top, side, unit, family } = this.frame;
    const size = 0.9 * unit;
    const half = [widthOf(content, size, family, 600) / 2 + 3, 0.72 * size + 3]; // with the halo
    const at = points.filter((z) => this.inside(z)).map((z) => [this.x(z[0]), this.y(z[1])]);
    if (!at.length) return null;
    let best = null;
    for (const [rank, [turn, out]] of PLACES.entries()) {
      const [dx, dy] = [Math.cos(prefers + turn), -Math.sin(prefers + turn)];
      const end = at.reduce((far, p) => (p[0] * dx + p[1] * dy > far[0] * dx + far[1] * dy ? p : far));
      const reach = Math.abs(dx) * half[0] + Math.abs(dy) * half[1] + 2 * out * half[1];
      const box = around(end[0] + dx * reach, end[1] + dy * reach, ...half);
      const whole = box.x0 > left && box.x1 < left + side && box.y0 > top && box.y1 < top + side;
      if (!whole || taken.some((other) => meet(box, other))) continue;
      const cost = rank + 4 * avoided.filter((other) => meet(box, other)).length;
      if (!best || cost < best.cost) best = { cost, box };
    }
    if (!best) return null;
    const { x0, x1, y0, y1 } = best.box;
    const node = vector("text", { x: (x0 + x1) / 2, y: (y0 + y1) / 2 + 0.31 * size, class: "mass", "text-anchor": "middle" });
    node.textContent = content;
    return { node, box: best.box };
  }

  // What a marker at z covers.
  covered(z, shape) {
    return around(this.x(z[0]), this.y(z[1]), (shape === "star" ? 0.72 : 0.42) * this.frame.unit + 3);
  }

  marker(z, layer, shape) {
    const [x, y, r] = [this.x(z[0]), this.y(z[1]), 0.42 * this.frame.unit];
    const d = {
      cross: `M${x - r} ${y}H${x + r}M${x} ${y - r}V${y + r}`,
      saltire: `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`,
      diamond: `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`,
      star: Array.from({ length: 10 }, (_, k) => {
        const [length, angle] = [k % 2 ? 0.6 * r : 1.7 * r, (Math.PI * k) / 5];
        return `${k ? "L" : "M"}${x + length * Math.sin(angle)} ${y - length * Math.cos(angle)}`;
      }).join("") + "Z",
    }[shape];
    return vector("path", { d, class: `marker ${layer}`, "data-layer": layer });
  }

  // The user's own Gaussian alone: it moves with every frame of a drag.
  drawOwn() {
    if (!this.own || !this.frame) return;
    this.own.replaceChildren(...this.plane.own.marks(this));
    this.loupe?.drawOwn();
    this.plane.own.place(this);
  }

  drawCursor() {
    if (!this.cursor) return;
    const z = this.plane.cursor;
    if (!z || !this.inside(z)) return this.cursor.replaceChildren();
    const { left, top, side, unit } = this.frame;
    const [x, y] = [this.x(z[0]), this.y(z[1])];
    this.cursor.replaceChildren(
      vector("line", { x1: left, x2: left + side, y1: y, y2: y }),
      vector("line", { x1: x, x2: x, y1: top, y2: top + side }),
      vector("circle", { cx: x, cy: y, r: 0.35 * unit }),
    );
  }

  // --- pointer and keys

  listen() {
    const stage = this.stage;
    stage.addEventListener("pointerdown", (event) => {
      this.pointers.set(event.pointerId, event);
      this.start = { event, view: this.view, moved: false };
      stage.setPointerCapture(event.pointerId);
      if (event.pointerType !== "mouse") this.plane.point(this.at(event));
    });
    stage.addEventListener("pointermove", (event) => this.move(event));
    stage.addEventListener("pointerup", (event) => {
      const tap = this.start && !this.start.moved && this.pointers.size === 1;
      this.pointers.delete(event.pointerId);
      if (tap && this.plane.data.pick) this.plane.pick(this.at(event));
      this.start = null;
    });
    stage.addEventListener("pointercancel", (event) => {
      this.pointers.delete(event.pointerId);
      this.start = null;
    });
    stage.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.plane.point(null);
    });
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && this.plane.focused() !== stage) return; // the page scrolls unless the plane was chosen
      event.preventDefault();
      this.scale(Math.exp(event.deltaY / 400), this.at(event));
    }, { passive: false });
    stage.addEventListener("keydown", (event) => this.key(event));
    stage.addEventListener("blur", () => this.plane.point(null));
  }

  move(event) {
    if (!this.frame) return;
    const held = this.pointers.has(event.pointerId);
    if (held) this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) return this.pinch();
    if (this.start && Math.hypot(event.clientX - this.start.event.clientX, event.clientY - this.start.event.clientY) > 5) {
      this.start.moved = true;
    }
    if (held && event.pointerType === "mouse" && this.start?.moved) {
      const scale = (2 * this.start.view.half) / this.frame.side;
      this.look({
        half: this.start.view.half,
        centre: [
          this.start.view.centre[0] - (event.clientX - this.start.event.clientX) * scale,
          this.start.view.centre[1] + (event.clientY - this.start.event.clientY) * scale,
        ],
      });
    } else if (event.pointerType === "mouse" || held) {
      this.plane.point(this.at(event));
    }
  }

  pinch() {
    const [a, b] = [...this.pointers.values()];
    const distance = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    if (this.spread) this.scale(this.spread / distance);
    this.spread = distance;
    clearTimeout(this.pinched);
    this.pinched = setTimeout(() => { this.spread = null; }, 200);
    if (this.start) this.start.moved = true;
  }

  key(event) {
    const step = this.view.half / 20;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key in moves) {
      const from = this.plane.cursor ?? this.plane.data.mean;
      const next = from.map((value, axis) => value + moves[event.key][axis]);
      this.plane.point(next);
      if (!this.inside(next)) this.look({ half: this.view.half, centre: next });
    } else if (event.key === "+" || event.key === "=") this.scale(1 / 1.5);
    else if (event.key === "-") this.scale(1.5);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") this.plane.point(null);
    else if (event.key === "Enter" && this.plane.data.pick && this.plane.cursor) this.plane.pick(this.plane.cursor);
    else return;
    event.preventDefault();
  }
}

// --- the whole: pictures, two panels, toggles, the walk ------------------------------------------------------------

let created = 0;

class Plane {
  constructor(root) {
    this.root = root;
    this.id = created++;
    this.hidden = new Set(["heat"]);
    this.cursor = null;
    this.pictures = element("div", { class: "pictures" });
    this.panels = { zoom: new Panel(this, "zoom", t("Zoomed to the mass")), box: new Panel(this, "box", t("The whole plane")) };
    this.scaleBar = element("div", { class: "colours", "aria-hidden": "true" });
    this.panels.box.root.append(this.scaleBar);
    this.toggles = element("fieldset", { class: "toggles" }, element("legend", {}, t("Show")));
    this.readout = element("output", { class: "readout" });
    this.room = element("div", { class: "room words", "data-other": this.readoutAt([-10, -10], 10, -1) }, this.readout);
    this.walk = new Walk(this);
    this.own = new Own(this);
    this.gaps = new Gaps(this);
    root.append(element("div", { class: "plane-grid" }, this.panels.zoom.root, this.pictures, this.gaps.root, this.panels.box.root,
      element("div", { class: "actions" }, this.own.root, this.walk.root, this.room), this.toggles));
    window.addEventListener("gpvae-view", (event) => this.follow(event.detail));
    window.addEventListener("gpvae-atlas", () => { if (this.data) { this.takeBoxAtlas(); this.point(this.cursor); this.draw(); } });
    document.fonts?.ready.then(() => this.data && this.draw()); // widths of texts were another font's before
  }

  focused() {
    return this.root.getRootNode().activeElement;
  }

  show(data) {
    this.data = data;
    this.root.classList.toggle("projector", data.projector);
    this.root.classList.toggle("veiled", Boolean(data.veil));
    const unpacked = (packed) => ({ ...packed, lines: unpackLines(packed) });
    this.lines = data.lines.map(unpacked);
    this.overlays = data.overlays.map((q) => ({ ...q, lines: q.lines.map(unpacked) }));
    this.prepareHeats();
    const { low, high } = data.zoom;
    this.zoomAtlas = new Atlas(bytes(data.atlas.tiles), data.atlas.nodes, low, high);
    this.takeBoxAtlas();
    this.showPictures();
    this.showToggles();
    this.walk.show(data.walks, data.walk);
    this.own.show(data.own);
    this.gaps.show(data.gaps);
    const [from, to] = data.home ?? [low, high];
    this.panels.zoom.show({ centre: [0, 1].map((k) => (from[k] + to[k]) / 2), half: (to[0] - from[0]) / 2 }, data.alt.zoom);
    this.panels.zoom.turn.hidden = !data.turns;
    this.mass = this.massWindow();
    this.panels.box.show({ centre: [0, 0], half: data.box.half }, data.alt.box);
    const { zoom } = this.panels;
    if (zoom.renewed && zoom.chosen && !data.link) zoom.view = { ...zoom.chosen() };
    if (this.own.jumped(zoom.view)) zoom.view = zoom.fit();
    this.room.dataset.room = data.hint;
    this.point(null);
    this.draw();
  }

  draw() {
    this.root.classList.toggle("heated", this.shown("heat"));
    for (const panel of Object.values(this.panels)) panel.draw();
    this.gaps.draw();
  }

  // A square around the region of 95 % of the posterior, with a margin; all of the window where there is none.
  massWindow() {
    const points = this.lines.filter((one) => one.layer === "exact" && one.mass === MASSES.at(-1)).flatMap((one) => one.lines.flat());
    if (!points.length) return this.panels.zoom.home;
    const ends = [0, 1].map((axis) => [Math.min, Math.max].map((pick) => points.reduce((end, z) => pick(end, z[axis]), points[0][axis])));
    return { centre: ends.map(([low, high]) => (low + high) / 2), half: 0.6 * Math.max(...ends.map(([low, high]) => high - low)) };
  }

  // What a window that holds all has to hold: the boxes around each q that is near enough, yours and the one on a walk.
  held() {
    const box = (q) => ({ centre: q.mean, halves: q.std.map((std) => REACH * std) });
    const margin = ({ centre, halves }) => ({ centre, halves: halves.map((half) => 1.1 * half) });
    const near = this.overlays.filter((q) => this.data.held.includes(q.key)).map((q) => margin(extent(q.lines.at(-1).lines.flat())));
    return [...near, ...[this.own.q, this.walk.held()].filter(Boolean).map(box)];
  }

  takeBoxAtlas() {
    const found = window[ATLASES]?.[this.data.digest];
    this.boxAtlas = found ? new Atlas(found.tiles, found.nodes, found.low, found.high) : null;
  }

  prepareHeats() {
    const { box, zoom } = this.data;
    const [boxHeat, zoomHeat] = [bytes(box.heat), bytes(zoom.heat)];
    this.nats = zoomHeat;
    const boxImage = heatImage(box.nodes, (k) => [...viridis(1 - boxHeat[k] / 255), 255]);
    const zoomImage = heatImage(zoom.nodes, (k) => [128, 128, 128, zoomHeat[k] === 255 ? 0 : 190 * Math.exp(-zoomHeat[k] / 10)]);
    this.heatsOf = {
      box: [{ image: boxImage, low: [-box.half, -box.half], high: [box.half, box.half] }],
      zoom: [{ image: zoomImage, low: zoom.low, high: zoom.high }],
    };
    const stops = VIRIDIS.map((c) => `rgb(${c})`).reverse().join(",");
    this.scaleBar.replaceChildren(
      element("span", {}, t("nats below the maximum")),
      element("div", { class: "gradient", style: `background:linear-gradient(to right,${stops})` }),
    );
  }

  // Numbers under the colours, those left out that would run into the one before.
  drawScale() {
    for (const old of this.scaleBar.querySelectorAll("i")) old.remove();
    const style = getComputedStyle(this.scaleBar);
    const [size, width, top] = [parseFloat(style.fontSize), this.scaleBar.clientWidth, this.data.box.top];
    const powers = Array.from({ length: Math.floor(top) + 1 }, (_, k) => 10 ** k);
    let free = -Infinity;
    for (const n of [0, ...powers]) {
      const [share, label] = [Math.log10(1 + n) / top, decade(n)];
      const half = widthOf(label, size, style.fontFamily) / 2;
      if (share > 1 || share * width - half < free) continue;
      this.scaleBar.append(element("i", { style: `left:${100 * share}%` }, label));
      free = share * width + half + 0.5 * size;
    }
  }

  heats(name) {
    return this.shown(name === "zoom" ? "exact" : "heat") ? this.heatsOf[name] : [];
  }

  // Pixels at z, from whichever atlas holds it; null where neither does.
  decoded(z) {
    const atlas = [this.data.veil ? null : this.zoomAtlas, this.boxAtlas].find((one) => one?.holds(z));
    return atlas ? atlas.decode(z) : null;
  }

  present(layer) {
    if (layer === "ground") return true;
    if (this.data.veil) return false;
    if (layer === "loupe") return true;
    if (layer === "truth") return Boolean(this.data.truth);
    if (layer === "heat") return true;
    return layer === "exact" || layer === "logs" || this.overlays.some((q) => q.key === layer);
  }

  shown(layer) {
    return this.present(layer) && !this.hidden.has(layer);
  }

  marks(panel) {
    const { marks, regions } = this.drawn(panel);
    return [...marks, ...this.labels(panel, panel.loupe ? [] : regions)]; // of a dot the regions cannot be told apart
  }

  // What stands on a panel without its labels, and the regions that want one.
  drawn(panel) {
    const zoom = panel.name === "zoom";
    const marks = [];
    const regions = [];
    for (const { layer, panel: where, label, mass, lines } of this.lines) {
      if (where !== panel.name || !this.shown(layer)) continue;
      for (const line of layer === "exact" ? [lines] : lines.map((one) => [one])) { // a region's holes stay holes
        if (line.length) marks.push(panel.paths(line, { class: `line ${layer}`, "data-layer": layer, "data-mass": mass ?? "", "data-label": label }));
      }
      if (zoom && layer === "exact" && lines.length) regions.push([lines.flat(), label, PREFERRED[mass]]);
    }
    for (const q of [...this.overlays].reverse()) { // the first one, dashed, on top: where both agree, both show
      if (!this.shown(q.key)) continue;
      for (const { mass, lines } of zoom ? q.lines : []) {
        for (const line of lines) {
          marks.push(panel.path(line, { class: `line overlay ${q.key}`, style: look(q), "data-layer": q.key, "data-mass": mass }));
        }
      }
      const mark = panel.marker(q.mean, `overlay ${q.key}`, q.marker);
      mark.setAttribute("style", look(q));
      mark.setAttribute("data-layer", q.key);
      marks.push(mark);
    }
    if (!zoom) {
      const { centre, half } = this.panels.zoom.view;
      const reach = Math.max(half, 0.012 * this.data.box.half); // a window smaller than the line would be invisible
      const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map((sides) => sides.map((side, axis) => centre[axis] + side * reach));
      marks.push(panel.path([...corners, corners[0]], { class: "window" }));
    }
    marks.push(...this.walk.marks(panel));
    if (this.shown("truth")) marks.push(panel.marker(this.data.truth, "truth", "star"));
    return { marks, regions };
  }

  // The labels of the regions, clear of the star and of one another, and of the other centres where there is room.
  labels(panel, regions) {
    const taken = [...(this.shown("truth") ? [panel.covered(this.data.truth, "star")] : []), ...(panel.loupe ? [panel.loupe.box] : [])];
    const centres = this.overlays.filter((q) => this.shown(q.key)).map((q) => panel.covered(q.mean));
    const nodes = [];
    for (const [points, content, prefers] of regions) {
      const found = panel.label(points, content, prefers, taken, centres);
      if (!found) continue;
      nodes.push(found.node);
      taken.push(found.box);
    }
    if (panel.name === "zoom") nodes.push(...this.names(panel, taken));
    return nodes;
  }

  // The name of the posterior and of each q at its outer ring, where there is room for it.
  names(panel, taken) {
    const nodes = [];
    const write = (lines, content, at, kind, style) => {
      const found = lines.length ? panel.label(lines.flat(), content, at, taken, []) : null;
      if (!found) return;
      found.node.setAttribute("class", `mass name ${kind}`);
      found.node.setAttribute("style", style);
      nodes.push(found.node);
      taken.push(found.box);
    };
    // on the side away from the other, so that no name stands on what it does not name
    const away = (from, to) => {
      const [dx, dy] = [0, 1].map((axis) => to[axis] - from[axis]);
      return Math.hypot(dx, dy) > 0.05 * panel.view.half ? Math.atan2(dy, dx) : null;
    };
    const { mean } = this.data;
    const outer = this.lines.find((one) => one.panel === panel.name && one.layer === "exact" && one.mass === MASSES.at(-1));
    if (outer && this.shown("exact")) write(outer.lines, t("true posterior"), (this.overlays.length && away(this.overlays[0].mean, mean)) ?? 0.75 * Math.PI, "exact", "");
    for (const q of this.overlays) {
      if (this.shown(q.key)) write(q.lines.at(-1)?.lines ?? [], q.label, away(mean, q.mean) ?? NAMED_AT, "overlay", look(q));
    }
    return nodes;
  }

  // The image, what each encoder reads, and the tops of the posterior's hills; the first of them gives way to the cursor.
  showPictures() {
    const [top, ...hills] = this.data.hills;
    this.top = { name: top.name, pixels: bytes(top.pixels) };
    this.cursorName = element("span", {}, top.name);
    const caption = element("figcaption", { class: "room", "data-room": top.name, "data-other": t("decoded at the cursor") }, this.cursorName);
    this.atCursor = picture(t("decoded at the cursor"), this.top.pixels);
    const shown = ({ name, pixels }) => element("figure", {}, picture(name, bytes(pixels)), element("figcaption", {}, name));
    this.pictures.replaceChildren(...this.data.pictures.map(shown),
      element("figure", { class: "at-cursor" }, this.atCursor, caption), ...hills.map(shown));
  }

  showToggles() {
    const own = this.overlays.map((q) => [q.key, q.label, q]);
    const layers = [["exact", t("exact p(z|x)")], ["logs", t("log-density contours")], ...own, ["truth", t("true z")],
      ["ground", t("decoded images")], ["loupe", t("loupe")], ["heat", t("colour by log p(z|x)")]];
    const rows = layers.filter(([layer]) => this.present(layer)).map(([layer, name, q]) => {
      const box = element("input", { type: "checkbox" });
      box.checked = !this.hidden.has(layer);
      box.addEventListener("change", () => {
        this.hidden[box.checked ? "delete" : "add"](layer);
        this.draw();
      });
      const sample = vector("svg", { viewBox: "0 0 34 12", class: "sample", "aria-hidden": "true" });
      if (layer === "truth") sample.append(vector("path", { d: "M17 0l2 4 5 .5-4 3 1.5 4.5-4.5-2.5-4.5 2.500 1.500-4.500-4-3 5-.5z", class: "marker truth" }));
      else if (layer === "heat") sample.append(vector("rect", { x: 10, y: 0, width: 12, height: 12, class: "sample-heat" }));
      else if (layer === "loupe") sample.append(vector("path", { d: "M20 8l5 4M21 5a4 4 0 1 1-8 0a4 4 0 1 1 8 0", class: "sample-ground" }));
      else if (layer === "ground") sample.append(vector("path", { d: "M13 1h8l-4.5 4a3.3 3.3 0 1 1-4 5", class: "sample-ground" }));
      else sample.append(vector("path", { d: "M1 6H33", class: q ? "line overlay" : `line ${layer}`, style: q ? look(q) : "", fill: "none" }));
      return element("label", { "data-toggle": layer }, box, sample, name);
    });
    this.toggles.replaceChildren(this.toggles.firstChild, ...rows);
  }

  // --- the point under the cursor

  point(z, there = t("decoded at the cursor")) {
    this.cursor = z;
    for (const panel of Object.values(this.panels)) panel.drawCursor();
    const guessed = this.own.data?.veil ? this.own.q?.mean : null; // what a guess says, as no top is known
    const at = z ?? guessed ?? null;
    const pixels = at === null ? null : this.decoded(at) ?? this.boxAtlas?.decode(at);
    paint(this.atCursor, pixels ?? this.top.pixels);
    const said = !pixels ? t("not decoded here") : z === null ? t("decoded at your centre") : there;
    this.cursorName.textContent = at === null ? this.top.name : said;
    this.atCursor.setAttribute("aria-label", this.cursorName.textContent);
    this.say();
  }

  say() {
    const z = this.cursor;
    if (z === null) {
      this.readout.textContent = this.data.hint;
      return;
    }
    const below = this.natsBelow(z);
    this.readout.textContent = this.readoutAt(z, below, MASSES.findIndex((_, k) => below <= this.data.edges[k]));
  }

  // What is said of z, whose density is so many nats below the peak, null where that is too many, in so small a region.
  readoutAt(z, below, region) {
    const place = `z = (${z.map((value) => written(value.toFixed(4))).join(decimal === "." ? ", " : "; ")})`;
    if (this.data?.veil) return place;
    if (below === null) return t("{place}: far outside the mass of p(z|x)", { place });
    const mass = Math.round(100 * MASSES.at(region));
    const where = region < 0 ? t("outside the {mass} % region", { mass }) : t("inside the {mass} % region", { mass });
    return t("{place}: {nats} nats below the peak of p(z|x), {where}", { place, nats: written(below.toFixed(1)), where });
  }

  natsBelow(z) {
    const { low, high, nodes } = this.data.zoom;
    const place = [0, 1].map((axis) => Math.round(((z[axis] - low[axis]) / (high[axis] - low[axis])) * (nodes - 1)));
    if (place.some((p) => p < 0 || p >= nodes)) return null;
    const value = this.nats[place[0] * nodes + place[1]];
    return value === 255 ? null : value / 10;
  }

  // --- planes side by side look at the same window

  tellLinked(panel) {
    if (!this.data.link) return;
    const detail = { group: this.data.link, name: panel.name, view: panel.view, from: this };
    window.dispatchEvent(new CustomEvent("gpvae-view", { detail }));
  }

  follow({ group, name, view, from }) {
    if (from !== this && this.data?.link === group) this.panels[name].look({ ...view }, false);
  }
}
