// --- a loupe: what is a dot in the window, enlarged in a corner of it with a scale of its own -------------------------

const DOT = 0.08; // of the window's width: in a region narrower than that the lines cannot be told apart
const GLASS = 0.3; // of the window's side

// The middle and the half sides of the box around some points.
function extent(points) {
  const ends = [0, 1].map((axis) => points.reduce(([low, high], z) => [Math.min(low, z[axis]), Math.max(high, z[axis])], [Infinity, -Infinity]));
  return { centre: ends.map(([low, high]) => (low + high) / 2), halves: ends.map(([low, high]) => (high - low) / 2) };
}

// The posterior's largest hill, or else the first q, whose region of 95 % is a dot in this window; null: nothing is.
function dotIn(panel) {
  const { plane } = panel;
  const exact = plane.lines.find((one) => one.panel === "zoom" && one.layer === "exact" && one.mass === MASSES.at(-1));
  const regions = [plane.shown("exact") && exact, ...plane.overlays.map((q) => plane.shown(q.key) && q.lines.at(-1))];
  for (const region of regions) {
    const boxes = (region ? region.lines : []).filter((line) => line.length).map(extent);
    const largest = boxes.reduce((a, b) => (a && Math.max(...a.halves) >= Math.max(...b.halves) ? a : b), null);
    if (largest && Math.max(...largest.halves) < DOT * panel.view.half && panel.inside(largest.centre)) return largest;
  }
  return null;
}

class Loupe {
  // Over a panel, in the corner that is farthest from everything drawn; null where nothing is a dot.
  static over(panel) {
    const dot = panel.name === "zoom" && panel.plane.shown("loupe") ? dotIn(panel) : null;
    return dot && new Loupe(panel, dot);
  }

  constructor(panel, { centre, halves }) {
    const { left, top, side } = panel.frame;
    const glass = GLASS * side;
    const busy = [centre, ...panel.plane.overlays.map((q) => q.mean), panel.plane.own.q?.mean, panel.plane.data.truth].filter(Boolean).map((z) => [panel.x(z[0]), panel.y(z[1])]);
    const corners = [[0, 0], [1, 0], [0, 1], [1, 1]].map((turn) => turn.map((k, axis) => [left, top][axis] + 8 + k * (side - glass - 16)));
    const room = ([x, y]) => Math.min(...busy.map(([a, b]) => Math.max(Math.abs(a - x - glass / 2), Math.abs(b - y - glass / 2))));
    const [x, y] = corners.reduce((best, corner) => (room(corner) > room(best) ? corner : best));
    this.box = { x0: x, x1: x + glass, y0: y, y1: y + glass };
    this.panel = panel;
    // the same panel, looking at less in a smaller frame
    this.lens = Object.assign(Object.create(panel), { view: { centre, half: 1.5 * Math.max(...halves) }, frame: { ...panel.frame, left: x, top: y, side: glass } });
    this.own = vector("g");
  }

  draw() {
    const { x0, x1, y0, y1 } = this.box;
    const { panel, lens } = this;
    const id = `loupe-${panel.plane.id}`;
    const clip = vector("clipPath", { id });
    clip.append(vector("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }));
    const within = vector("g", { "clip-path": `url(#${id})` });
    within.append(vector("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: "lens-ground" }), ...panel.plane.drawn(lens).marks, this.own);
    this.drawOwn();
    const root = vector("g", { class: "lens" });
    root.append(clip, this.pointer(), within, vector("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: "lens-frame" }), this.scale());
    return root;
  }

  drawOwn() {
    this.own.replaceChildren(...this.panel.plane.own.marks(this.lens));
  }

  // A line from the dot to the glass.
  pointer() {
    const { x0, x1, y0, y1 } = this.box;
    const [x, y] = [this.panel.x(this.lens.view.centre[0]), this.panel.y(this.lens.view.centre[1])];
    return vector("line", { x1: x, y1: y, x2: clamp(x, x0, x1), y2: clamp(y, y0, y1), class: "lens-frame" });
  }

  // A bar of a round length, less than half as long as the glass is wide, with that length beside it.
  scale() {
    const { x0, y1 } = this.box;
    const { view, frame } = this.lens;
    const power = 10 ** Math.floor(Math.log10(view.half));
    const length = [5, 2, 1].map((f) => f * power).find((one) => one <= 0.8 * view.half) ?? 0.5 * power;
    const [x, y, px] = [x0 + 8, y1 - 9, (length / (2 * view.half)) * frame.side];
    const label = vector("text", { x: x + px + 5, y: y + 4, class: "lens-scale" });
    label.textContent = written(String(Number(length.toPrecision(1))));
    const group = vector("g");
    group.append(vector("path", { d: `M${x} ${y - 4}v8M${x} ${y}h${px}M${x + px} ${y - 4}v8`, class: "lens-bar" }), label);
    return group;
  }
}
