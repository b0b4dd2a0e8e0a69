// --- variational optimisation, step by step ---------------------------------------------------------------------------

const STEP_TIME = 1400; // ms from one step to the next: an eye has to follow the ring

class Walk {
  constructor(plane) {
    this.plane = plane;
    this.playText = element("span");
    this.play = element("button", { type: "button", class: "room" }, this.playText);
    this.step = element("button", { type: "button" }, t("Step"));
    this.clear = element("button", { type: "button" }, t("Clear the walk"));
    this.scrub = element("input", { type: "range", min: 0, value: 0, step: "any", "aria-label": t("Place on the walk") });
    this.curve = vector("svg", { class: "curve", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.choice = element("select", { "aria-label": t("Which walk") });
    this.text = element("output", { class: "walk-text" });
    this.room = element("div", { class: "room words" }, this.text);
    this.root = element("div", { class: "walker" }, this.choice, this.play, this.step, this.clear, this.scrub, this.curve, this.room);
    this.choice.addEventListener("change", () => {
      this.moved(() => this.take(this.choice.selectedIndex));
      this.plane.draw();
      this.plane.choose(this.words.key);
    });
    this.play.addEventListener("click", () => (this.timer ? this.pause() : this.start()));
    this.step.addEventListener("click", () => { this.pause(); this.go(Math.floor(this.place) + 1); });
    this.clear.addEventListener("click", () => { this.pause(); this.go(-1); });
    this.scrub.addEventListener("input", () => {
      const place = Number(this.scrub.value); // a pause would put the slider back
      this.pause();
      this.go(place);
    });
  }

  // ``wanted``: the key of the walk to be offered. One that is under way and the same as before goes on.
  show(walks, wanted) {
    this.walks = walks;
    this.choice.replaceChildren(...walks.map((walk) => element("option", {}, walk.name)));
    this.choice.hidden = walks.length < 2;
    const number = Math.max(walks.findIndex((walk) => walk.key === wanted), 0);
    if (this.place >= 0 && JSON.stringify(walks[number]) === JSON.stringify(this.words)) this.choice.selectedIndex = number;
    else this.moved(() => this.take(number));
  }

  take(number) {
    this.pause();
    this.words = this.walks[number];
    this.path = this.words?.path ?? [];
    this.choice.selectedIndex = this.words ? number : -1;
    const last = this.path.length - 1;
    this.play.dataset.room = this.label;
    this.room.dataset.other = this.words?.start ?? "";
    this.room.dataset.room = `${t("step {k} of {last}", { k: last, last })}. ${this.words?.end ?? ""}`;
    this.place = -1; // not on the plane yet
    this.scrub.max = Math.max(last, 1);
    for (const control of [this.play, this.step, this.scrub]) control.disabled = last < 1; // until the server has sent it
    this.root.hidden = this.path.length < 2 && this.walks.length < 2;
    this.say();
  }

  get label() {
    return `▶ ${this.words?.label ?? ""}`;
  }

  start() {
    if (this.place >= this.path.length - 1) this.place = -1;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.go(Math.floor(this.place) + 1);
    let last = performance.now();
    const frame = (now) => {
      this.go(this.place < 0 ? 0 : this.place + (now - last) / STEP_TIME);
      last = now;
      this.timer = this.place < this.path.length - 1 ? requestAnimationFrame(frame) : null;
      this.say();
    };
    this.timer = requestAnimationFrame(frame);
  }

  pause() {
    cancelAnimationFrame(this.timer);
    this.timer = null;
    this.say();
  }

  go(place) {
    this.moved(() => { this.place = place > this.path.length - 1 ? (Number.isInteger(place) ? 0 : this.path.length - 1) : place; });
    if (this.place === this.path.length - 1 && this.plane.data.listens) this.plane.tell("walked");
    this.say();
    this.plane.draw();
    this.plane.point(this.place < 0 ? null : this.at().mean, t("decoded on the walk"));
  }

  // A window that holds everything goes on doing so.
  moved(change) {
    const { zoom } = this.plane.panels;
    const whole = zoom.view && sameWindow(zoom.view, zoom.fit());
    change();
    if (whole) zoom.view = zoom.fit();
  }

  // What a window has to hold of it: nothing of one that is nowhere near the plane.
  held() {
    if (!this.path || this.place < 0) return null;
    const { mean, tril: [a, b, c] } = this.at();
    return mean.every((value) => Math.abs(value) <= 8) ? { mean, std: [a, Math.hypot(b, c)] } : null;
  }

  // The Gaussian between two steps.
  at() {
    const k = Math.min(Math.floor(this.place), this.path.length - 1);
    const [a, b, share] = [this.path[k], this.path[Math.min(k + 1, this.path.length - 1)], this.place - k];
    const mix = (from, to) => from.map((value, axis) => value + share * (to[axis] - value));
    return { mean: mix(a.mean, b.mean), tril: mix(a.tril, b.tril) };
  }

  // Between two steps it lies between theirs.
  get elbo() {
    const k = Math.min(Math.floor(this.place), this.path.length - 1);
    const [from, to] = [this.path[k].elbo, this.path[Math.min(k + 1, this.path.length - 1)].elbo];
    return from + (this.place - k) * (to - from);
  }

  // How far below log p(x) it stands, in nats.
  kl(evidence) {
    return Math.max(0, evidence - this.elbo);
  }

  // The ELBO of each step, and how far the walk has come.
  drawCurve() {
    const heights = this.path.map((step) => step.elbo);
    const [low, high] = [Math.min(...heights), Math.max(...heights)];
    const last = Math.max(this.path.length - 1, 1);
    const point = (k) => `${(100 * k) / last},${27 - 24 * ((heights[k] - low) / (high - low || 1))}`;
    const line = vector("polyline", { points: this.path.map((_, k) => point(k)).join(" "), class: "elbo" });
    const at = Math.max(this.place, 0);
    const mark = vector("line", { x1: (100 * at) / last, x2: (100 * at) / last, y1: 0, y2: 30, class: "here" });
    this.curve.replaceChildren(line, ...(this.place < 0 ? [] : [mark]));
  }

  say() {
    this.scrub.value = Math.max(this.place, 0);
    this.clear.disabled = this.place < 0;
    if (this.path) this.drawCurve();
    this.playText.textContent = this.timer ? `❚❚ ${t("Pause")}` : this.label;
    if (!this.path || this.place < 0) {
      this.text.textContent = this.words?.start ?? "";
      return;
    }
    this.text.ariaLive = this.timer ? "off" : "polite"; // nobody listens to a number of each frame
    this.text.textContent = this.said();
  }

  said() {
    const [k, last] = [Math.floor(this.place), this.path.length - 1];
    const place = t("step {k} of {last}", { k, last });
    if (k === last) return `${place}. ${this.words.end}`;
    if (k === this.place) return `${place}: ELBO ${this.path[k].text} ${t("nats")}`;
    return t("between steps {k} and {next} of {last}: ELBO about {elbo} nats", { k, next: k + 1, last, elbo: written(String(Number(this.elbo.toPrecision(6)))) });
  }

  marks(panel) {
    if (!this.path || this.place < 0) return [];
    const q = this.at();
    const trail = [...this.path.slice(0, Math.floor(this.place) + 1).map((step) => step.mean), q.mean];
    const marks = [panel.path(trail, { class: "line trail" }), panel.marker(q.mean, "walk", "diamond")];
    if (panel.name === "zoom") {
      for (const mass of MASSES) marks.push(panel.path(ellipse(q, mass), { class: "line walk", "data-layer": "walk", "data-mass": mass }));
    }
    return marks;
  }
}
