// --- the gap of each q: a column that hangs from log p(x), and moves with everything ----------------------------------

const MANY = 5; // more columns than that have their names upright
const TICKS = 4; // at most, on the scale beside them

class Gaps {
  constructor(plane) {
    this.plane = plane;
    this.top = element("p", { class: "gap-top" });
    this.columns = element("div", { class: "gap-columns", role: "group", tabindex: "0", "aria-label": t("The gap, in nats") }); // keys scroll it
    const words = { approximation: t("approximation gap"), amortization: t("amortization gap"), whole: t("both: not a diagonal Gaussian") };
    const key = Object.entries(words).map(([name, said]) => element("span", {}, element("i", { class: name }), said));
    this.undivided = key[2];
    this.root = element("section", { class: "gap-panel" }, element("h2", {}, t("The gap, in nats")), this.top, this.columns, element("p", { class: "gap-key" }, ...key));
  }

  show(data) {
    this.data = data;
    this.root.hidden = !data;
    this.root.classList.toggle("plain", data?.plain ?? false);
    this.undivided.hidden = !data?.columns.some((one) => !one.parts.length);
    this.top.textContent = data ? `log p(x) = ${data.top}` : "";
  }

  draw() {
    if (!this.data) return;
    const own = this.data.columns.filter((one) => this.plane.shown(one.key));
    this.deepest = Math.max(...own.map((one) => one.kl), this.data.scale, 1e-9);
    const { walk } = this.plane;
    const moving = walk.path && walk.place >= 0 ? [this.ofWalk(walk)] : [];
    this.columns.replaceChildren(this.scale(), ...own.map((one) => this.column(one)), ...moving, ...this.yours());
    this.columns.classList.toggle("many", this.columns.childElementCount > MANY + 1); // the scale is one of them
  }

  // How many nats a depth is: columns of one image have one scale, those of the next may have another.
  scale() {
    const marks = niceTicks(0, this.deepest, TICKS).map(([nats, said]) => element("span", { style: `top:${(100 * nats) / this.deepest}%` }, said));
    return element("div", { class: "gap-scale", "aria-hidden": "true" }, element("div", { class: "hang" }, ...marks));
  }

  // A q of the page, its gap taken apart where it has parts.
  column({ key, label, kl, text, elbo, parts }) {
    const q = this.plane.overlays.find((one) => one.key === key);
    const apart = parts.length ? parts : [{ name: "whole", nats: kl, text }];
    const words = parts.length ? `: ${parts.map((part) => `${part.said} ${part.text}`).join(", ")}` : "";
    return this.hanging(label, kl, text, elbo, apart, `${label}: ${text} ${t("nats")}${words}`, { class: "overlay", style: q ? look(q) : "" });
  }

  // ``about``: whether these numbers are the browser's own, which the server makes exact.
  whole(label, kind, kl, elbo, about) {
    const mark = (text) => (about ? `≈ ${text}` : text);
    const text = kl === null ? "?" : mark(three(kl));
    return this.hanging(label, kl ?? 0, text, kl === null ? "?" : mark(elbo), [{ name: kind, nats: kl ?? 0, text }], `${label}: ${text} ${t("nats")}`, { class: kind });
  }

  ofWalk(walk) {
    const [kl, between] = [walk.kl(this.data.evidence), !Number.isInteger(walk.place)];
    const elbo = between ? elboText(this.data.evidence, kl) : walk.path[walk.place].text;
    return this.whole(t("on the walk"), "walk", kl, elbo, between);
  }

  // The user's own: an empty column that invites, until there is one.
  yours() {
    const { own } = this.plane;
    if (!own.data || own.data.veil) return [];
    if (own.q) return [this.whole(t("yours"), "mine", own.known(), own.elbo(), own.exact === null)];
    const button = element("button", { type: "button", class: "gap-empty", title: own.data.invitation }, t("drag to fill"));
    button.addEventListener("click", () => this.plane.tell("start"));
    return [element("div", { class: "gap-column mine" }, element("div", { class: "hang" }, button), element("b", {}, "?"), element("span", {}, t("yours")))];
  }

  hanging(label, kl, text, elbo, parts, words, attributes) {
    const share = (nats) => 100 * clamp(nats / this.deepest, 0, 1);
    const bars = parts.map((part) => element("i", { class: part.name, style: `height:${share(part.nats)}%`, title: `${part.said ?? label} ${part.text} ${t("nats")}` }));
    const hang = element("div", { class: `hang${kl > 1.001 * this.deepest ? " deeper" : ""}`, role: "img", "aria-label": words }, ...bars);
    return element("div", { ...attributes, class: `gap-column ${attributes.class}` }, hang, element("b", {}, text), element("span", {}, label.replace("marginalis", "margin\u00ADalis")), element("small", {}, `ELBO ${elbo}`));
  }
}

// Three significant digits, never a power of ten.
const three = (nats) => (nats < 1e-3 ? t("less than 0.001") : written(nats < 1000 ? String(Number(nats.toPrecision(3))) : Math.round(nats).toLocaleString("en")));

// log p(x) less a KL, to the digits that are worth saying of an approximate one.
const elboText = (evidence, kl) => written((evidence - kl).toFixed(kl < 10 ? 1 : 0));
