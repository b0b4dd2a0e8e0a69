// A sheet to draw a digit on: mouse, finger, pen or keys. Strokes go to the server when the pen is lifted.
//
// Coordinates are whole numbers 0..255. Each message carries the whole drawing and a version, so that an answer to an
// older message never wipes what was drawn since.

const SIDE = 256;
const PEN = 22; // width of the stroke, as the server draws it

export default function mount({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".sheet");
  root.sheet ??= new Sheet(root);
  root.sheet.send = (value) => setTriggerValue("drawn", value);
  root.sheet.show(data);
}

class Sheet {
  constructor(root) {
    this.canvas = root.querySelector("canvas");
    this.strokes = [];
    this.version = 0;
    this.current = null; // the stroke being drawn
    this.pen = { at: [SIDE / 2, SIDE / 2], down: false, shown: false }; // the keyboard's pen
    [this.undo, this.clear] = root.querySelectorAll("button");
    this.undo.addEventListener("click", () => this.change(this.strokes.slice(0, -1)));
    this.clear.addEventListener("click", () => this.change([]));
    this.canvas.addEventListener("pointerdown", (event) => {
      if (this.current || event.button > 0) return;
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.focus({ preventScroll: true });
      this.pointer = event.pointerId;
      this.current = [this.at(event)];
      this.pen.shown = false;
      this.draw();
      event.preventDefault();
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.current || event.pointerId !== this.pointer) return;
      const parts = event.getCoalescedEvents?.() ?? [];
      for (const part of parts.length ? parts : [event]) this.current.push(this.at(part));
      this.draw();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, (event) => event.pointerId === this.pointer && this.lift());
    }
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("blur", () => { this.pen.shown = false; if (this.pen.down) this.lift(); this.draw(); });
  }

  show({ strokes, version, words }) {
    const t = (english) => words[english] ?? english;
    this.canvas.setAttribute("aria-label", t("Draw a digit. With the keyboard: arrows move the pen, space puts it down and lifts it, backspace takes the last stroke back."));
    this.undo.textContent = t("Undo");
    this.clear.textContent = t("Clear");
    if (this.current || version < this.version) return;
    this.version = version;
    this.strokes = strokes;
    this.draw();
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const place = [event.clientX - box.left, event.clientY - box.top];
    return [place[0] / box.width, place[1] / box.height].map((share) => Math.round(Math.min(Math.max(share, 0), 1) * (SIDE - 1)));
  }

  lift() {
    const stroke = this.current;
    this.current = null;
    this.pen.down = false;
    this.change([...this.strokes, stroke]);
  }

  change(strokes) {
    this.strokes = strokes;
    this.version += 1;
    this.draw();
    this.send({ version: this.version, strokes });
  }

  key(event) {
    const step = event.shiftKey ? 2 : 8;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) {
      this.pen.at = this.pen.at.map((value, axis) => Math.min(Math.max(value + moves[event.key][axis], 0), SIDE - 1));
      this.pen.shown = true;
      if (this.pen.down) this.current.push([...this.pen.at]);
    } else if (event.key === " ") {
      this.pen.shown = true;
      if (this.pen.down) this.lift();
      else {
        this.pen.down = true;
        this.current = [[...this.pen.at]];
      }
    } else if (event.key === "Backspace" || event.key === "Delete") this.change(this.strokes.slice(0, -1));
    else return;
    event.preventDefault();
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SIDE, SIDE);
    Object.assign(context, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: "#111" });
    for (const stroke of this.current ? [...this.strokes, this.current] : this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      for (const point of stroke.length > 1 ? stroke.slice(1) : stroke) context.lineTo(...point);
      context.stroke();
    }
    if (!this.pen.shown) return;
    context.beginPath();
    context.arc(...this.pen.at, PEN / 2, 0, 2 * Math.PI);
    Object.assign(context, { lineWidth: 3, strokeStyle: this.pen.down ? "#b84a00" : "#0072b2" });
    context.stroke();
  }
}
