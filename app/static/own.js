// --- a Gaussian of one's own: dragged here, its ELBO followed here, made exact by the server on release ---------------

const GRIP = 1.79412; // standard deviations from the centre to a width's grip: the edge of the 80 % region
const [NARROWEST, WIDEST] = [1e-4, 4];
const HERMITE = [ // nodes and weights of nine points for N(0, 1): exact for polynomials up to degree 17
  [0, 0.406349206349206], [1.023255663789133, 0.2440975028949394], [2.07684797867783, 0.04991640676521788],
  [3.205429002856470, 0.002789141321231769], [4.512745863399783, 2.234584400774658e-5],
].flatMap(([node, weight]) => (node ? [[node, weight], [-node, weight]] : [[node, weight]]));
const AGAIN = 450; // ms after the last key until the server is asked

// log p(x, z) on a lattice, as nats below the top.
class Field {
  constructor({ low, high, nodes, most, depths }) {
    Object.assign(this, { low, high, nodes });
    const raw = new Uint16Array(bytes(depths).buffer);
    this.below = Float64Array.from(raw, (depth) => Math.expm1((depth / 65535) * most));
  }

  // Nats below the top at z, between the four nodes around; null outside.
  at(z) {
    const place = [0, 1].map((axis) => ((z[axis] - this.low[axis]) / (this.high[axis] - this.low[axis])) * (this.nodes - 1));
    if (place.some((p) => !(p >= 0 && p <= this.nodes - 1))) return null;
    const node = place.map((p) => Math.min(Math.floor(p), this.nodes - 2));
    const share = place.map((p, axis) => p - node[axis]);
    let value = 0;
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      const weight = (i ? share[0] : 1 - share[0]) * (j ? share[1] : 1 - share[1]);
      value += weight * this.below[(node[0] + i) * this.nodes + node[1] + j];
    }
    return value;
  }
}

// The server answers with the numbers that it was told, rounded.
const alike = (q, other) => [0, 1].every((axis) => Math.abs(q.mean[axis] - other.mean[axis]) + Math.abs(q.std[axis] - other.std[axis]) < 1e-3 * q.std[axis]);

class Own {
  constructor(plane) {
    this.plane = plane;
    this.tries = [];
    this.begin = element("button", { type: "button", class: "own-begin" }, t("Drag a Gaussian of your own"));
    this.clear = element("button", { type: "button" }, t("Clear yours"));
    this.prior = element("button", { type: "button" }, t("Put it on the prior"));
    this.text = element("output", { class: "own-text", "aria-live": "polite" });
    this.room = element("div", { class: "words" }, this.text);
    this.root = element("div", { class: "own" }, this.begin, this.clear, this.prior, this.room);
    this.begin.addEventListener("click", () => { this.begun = true; this.plane.tell("start"); });
    this.clear.addEventListener("click", () => this.plane.tell("clear"));
    this.prior.addEventListener("click", () => { this.jumps = true; this.plane.tell("prior"); });
    this.grips = {};
    for (const panel of Object.values(plane.panels)) {
      this.grips[panel.name] = [["centre", t("centre")], ["first", t("width along z₁")], ["second", t("width along z₂")]].map(
        ([part, words]) => this.grip(panel, part, words));
      panel.stage.append(...this.grips[panel.name]);
    }
  }

  grip(panel, part, words) {
    const node = element("button", {
      type: "button", class: `grip ${part}`,
      "aria-label": t("Your Gaussian's {part}, {plane}: drag it, or use the arrow keys", { part: words, plane: panel.name === "zoom" ? t("zoomed plane") : t("whole box") }),
    });
    node.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      event.preventDefault();
      node.focus();
      node.setPointerCapture(event.pointerId);
      this.held = { part, from: panel.at(event), q: this.q, moved: false };
    });
    node.addEventListener("pointermove", (event) => {
      event.stopPropagation();
      if (!this.held || this.held.part !== part) return;
      this.held.moved = true;
      this.drag(panel.at(event), panel);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      node.addEventListener(name, (event) => {
        event.stopPropagation();
        if (this.held?.moved) this.release();
        this.held = null;
      });
    }
    node.addEventListener("keydown", (event) => this.key(event, panel, part));
    return node;
  }

  show(own) {
    const changed = JSON.stringify(own?.image) !== JSON.stringify(this.data?.image);
    if (changed || !own?.q) this.tries = [];
    this.data = own;
    const before = this.q;
    this.q = own?.q ? { mean: own.q.slice(0, 2), std: own.q.slice(2) } : null;
    this.placed = Boolean(this.q) && !(before && alike(this.q, before));
    this.fields = own?.field ? ["zoom", "box"].map((name) => new Field(own.field[name])) : [];
    this.exact = own?.text ?? null;
    if (this.q && own.kl !== null) this.remember(own.kl);
    this.root.hidden = !own;
    this.begin.hidden = Boolean(this.q);
    this.clear.hidden = this.prior.hidden = !this.q || own.locked;
    this.say();
    if (this.begun && this.q) { // the button is gone: whoever pressed it by a key goes on with the centre
      this.begun = false;
      requestAnimationFrame(() => this.grips.zoom[0].focus({ preventScroll: true }));
    }
  }

  // Whether it was put elsewhere, by a button or by a step of the lesson, and may be out of sight there.
  jumped({ centre, half }) {
    const seen = !this.q || [0, 1].every((axis) => Math.abs(this.q.mean[axis] - centre[axis]) + GRIP * this.q.std[axis] <= half);
    const jumped = this.jumps || (this.placed && !seen);
    this.jumps = this.placed = false;
    return jumped;
  }

  remember(kl) {
    const last = this.tries.at(-1);
    if (!last || last.mean.some((value, axis) => value !== this.q.mean[axis]) || last.kl !== kl) {
      this.tries.push({ mean: this.q.mean, kl });
    }
  }

  // --- changing it

  drag(z, panel) {
    const { part, from, q } = this.held;
    if (part === "centre") {
      return this.change({ mean: q.mean.map((value, axis) => clamp(value + z[axis] - from[axis], -8, 8)), std: q.std });
    }
    const axis = part === "first" ? 0 : 1;
    const reach = (point) => Math.max(Math.abs(point[axis] - q.mean[axis]), 1e-9);
    const std = [...q.std];
    std[axis] = clamp((q.std[axis] * reach(z)) / reach(from), NARROWEST, WIDEST);
    this.change({ mean: q.mean, std });
  }

  key(event, panel, part) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    const move = moves[event.key];
    const step = (event.shiftKey ? 5 : 1) * panel.view.half / 60;
    if (part === "centre") {
      this.change({ mean: this.q.mean.map((value, axis) => clamp(value + step * move[axis], -8, 8)), std: this.q.std });
    } else {
      const axis = part === "first" ? 0 : 1;
      const std = [...this.q.std];
      std[axis] = clamp(std[axis] * Math.exp(0.08 * (move[0] + move[1]) * (event.shiftKey ? 5 : 1)), NARROWEST, WIDEST);
      this.change({ mean: this.q.mean, std });
    }
    clearTimeout(this.later);
    this.later = setTimeout(() => this.release(), AGAIN);
  }

  change(q) {
    this.q = q;
    this.exact = null;
    this.say();
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      for (const panel of Object.values(this.plane.panels)) panel.drawOwn();
      this.plane.gaps.draw();
    });
  }

  release() {
    this.plane.tell([...this.q.mean, ...this.q.std].map((value) => Number(value.toPrecision(6))));
  }

  // --- its numbers

  // ELBO less the field's top, by the same nine points an axis for any q; null where the field does not reach.
  height() {
    let sum = 0;
    for (const [u, first] of HERMITE) {
      for (const [v, second] of HERMITE) {
        const z = [this.q.mean[0] + u * this.q.std[0], this.q.mean[1] + v * this.q.std[1]];
        const below = this.fields.map((field) => field.at(z)).find((value) => value !== null);
        if (below === undefined) return null;
        sum -= first * second * below;
      }
    }
    return sum + Math.log(this.q.std[0] * this.q.std[1]) + 1 + Math.log(2 * Math.PI);
  }

  // KL(q || p) as far as the browser can tell.
  kl() {
    const height = this.height();
    return height === null ? null : Math.max(0, this.data.evidence - this.data.field.top - height);
  }

  // The same, exact where the server has said it.
  known() {
    return this.exact === null ? this.kl() : this.data.kl;
  }

  // The ELBO as text, exact where the server has said it.
  elbo() {
    return this.exact === null ? elboText(this.data.evidence, this.kl()) : this.data.elbo;
  }

  say() {
    if (!this.data) return;
    if (!this.q) {
      this.text.textContent = this.data.invitation;
      return;
    }
    if (this.exact !== null) {
      this.text.textContent = this.exact;
      return;
    }
    if (this.data.veil) {
      this.text.textContent = t("Drag the centre and the two widths.");
      return;
    }
    const kl = this.kl();
    const about = (nats) => (kl === null ? t("not known here") : t("about {nats} nats", { nats }));
    const elbo = t("Your ELBO: {shown}.", { shown: about(this.elbo()) });
    this.text.textContent = `${t("Your KL: {shown}.", { shown: about(three(kl)) })} ${elbo} ${this.data.rivals}`;
  }

  // --- on a plane

  marks(panel) {
    if (!this.q) return [];
    const marks = [];
    if (this.tries.length > 1) marks.push(panel.path(this.tries.map((one) => one.mean), { class: "line tries" }));
    for (const one of this.tries.slice(0, -1)) {
      marks.push(vector("circle", { cx: panel.x(one.mean[0]), cy: panel.y(one.mean[1]), r: 3, class: "try" }));
    }
    for (const mass of MASSES) marks.push(panel.path(ellipse(this.q, mass), { class: "line mine", "data-layer": "mine", "data-mass": mass }));
    return marks;
  }

  // The grips stand on the 80 % edge, but never so close that a finger takes the wrong one. One that would lie outside
  // the plane stands on the other side, or else on the plane's edge: what cannot be seen cannot be taken.
  place(panel) {
    const grips = this.grips[panel.name];
    const { left, top, side, unit } = panel.frame;
    for (const grip of grips) grip.hidden = !this.q;
    if (!this.q) return;
    const [x, y] = [panel.x(this.q.mean[0]), panel.y(this.q.mean[1])];
    const least = 1.9 * unit;
    const scale = side / (2 * panel.view.half);
    const [right, bottom] = [left + side, top + side];
    const [across, up] = this.q.std.map((std) => Math.max(least, GRIP * std * scale));
    const seen = (first, second, low, high) => clamp([first, second].find((px) => px >= low && px <= high) ?? first, low, high);
    const [cx, cy] = [clamp(x, left, right), clamp(y, top, bottom)];
    const at = [[cx, cy], [seen(x + across, x - across, left, right), cy], [cx, seen(y - up, y + up, top, bottom)]];
    grips.forEach((grip, k) => {
      grip.hidden = k > 0 && Math.hypot(at[k][0] - at[0][0], at[k][1] - at[0][1]) < 0.9 * least;
      [grip.style.left, grip.style.top] = at[k].map((px) => `${px}px`);
    });
  }
}
