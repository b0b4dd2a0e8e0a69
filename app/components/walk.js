// --- variational optimisation, step by step ---------------------------------------------------------------------------

class Walk {
  constructor(plane) {
    this.plane = plane;
    this.playText = element("span");
    this.play = element("button", { type: "button", class: "room" }, this.playText);
    this.step = element("button", { type: "button" }, "Step");
    this.text = element("output", { class: "walk-text" });
    this.room = element("div", { class: "room words" }, this.text);
    this.root = element("div", { class: "walk" }, this.play, this.step, this.room);
    this.play.addEventListener("click", () => (this.timer ? this.pause() : this.start()));
    this.step.addEventListener("click", () => { this.pause(); this.go(Math.floor(this.place) + 1); });
  }

  show(path, words) {
    this.pause();
    this.path = path;
    this.words = words;
    this.play.dataset.room = this.label;
    this.room.dataset.other = words.start;
    this.room.dataset.room = `step ${path.length - 1} of ${path.length - 1}. ${words.end}`;
    this.place = -1; // not on the plane yet
    this.root.hidden = path.length < 2;
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
      this.go(this.place < 0 ? 0 : this.place + (now - last) / 700);
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
    this.place = place > this.path.length - 1 ? (Number.isInteger(place) ? 0 : this.path.length - 1) : place;
    if (this.place === this.path.length - 1 && this.plane.data.listens) this.plane.tell("walked");
    this.say();
    this.plane.draw();
  }

  say() {
    this.playText.textContent = this.timer ? "❚❚ Pause" : this.label;
    if (!this.path || this.place < 0) {
      this.text.textContent = this.words?.start ?? "";
      return;
    }
    const step = this.path[Math.floor(this.place)];
    const last = this.path.length - 1;
    const place = `step ${Math.floor(this.place)} of ${last}`;
    this.text.textContent = this.place < last ? `${place}: ELBO ${step.text} nats` : `${place}. ${this.words.end}`;
  }

  marks(panel) {
    if (!this.path || this.place < 0) return [];
    const k = Math.min(Math.floor(this.place), this.path.length - 1);
    const [a, b, share] = [this.path[k], this.path[Math.min(k + 1, this.path.length - 1)], this.place - k];
    const mix = (from, to) => from.map((value, axis) => value + share * (to[axis] - value));
    const q = { mean: mix(a.mean, b.mean), std: mix(a.std, b.std) };
    const marks = [panel.marker(q.mean, "walk", "diamond")];
    if (panel.name === "zoom") {
      for (const mass of MASSES) marks.push(panel.path(ellipse(q, mass), { class: "line walk", "data-layer": "walk", "data-mass": mass }));
    }
    return marks;
  }
}
