// Time and memory of each batch. The first and the last one are marked, and the padded share is lighter.
// If several workers take part, the memory of each is a line of its own.

import { svg } from "../dom.js";
import { bytes, device, plural, seconds, workerName } from "../format.js";

const HEIGHT = 132, LEFT = 76, TOP = 12, MIDDLE = 52, BOTTOM = 110, NAME = 16;
const DASHES = ["", "6 4", "2 3", "9 3 2 3"];

export class Chart {
  node = svg("svg", { class: "chart", role: "img", height: HEIGHT });
  #batches = [];
  #total = 0;

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(this.node);
  }

  // `total` is the number of frames to come altogether, or 0 if it is not known, or no longer of interest.
  show(batches, total) {
    this.#total = total ?? 0;
    this.#batches = [...batches.values()].sort((a, b) => a.index - b.index);
    this.#draw();
  }

  #draw() {
    const batches = this.#batches, width = this.node.clientWidth;
    this.node.toggleAttribute("hidden", batches.length === 0);
    if (!batches.length || !width) return;
    const slowest = Math.max(...batches.map((batch) => batch.seconds));
    const most = Math.max(...batches.map(memory));
    const size = batches[0].frames + batches[0].padded;
    const places = Math.max(batches.length, Math.ceil(this.#total / size));
    const step = Math.min((width - LEFT) / places, 110);
    const workers = byWorker(batches), height = HEIGHT + (workers.length > 1 ? NAME * workers.length : 0);
    this.node.setAttribute("height", height);
    this.node.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.node.setAttribute("aria-label", summary(batches, slowest, most));
    const point = (batch, n) => `${LEFT + (n + 0.45) * step},${MIDDLE - 8 - ((MIDDLE - 8 - TOP) * memory(batch)) / most}`;
    this.node.replaceChildren(
      ...pending(batches.length, places, step),
      ...batches.flatMap((batch, n) => bar(batch, LEFT + n * step, step * 0.9, slowest)),
      ...workers.map((own, n) => svg("polyline", {
        class: "memory", fill: "none", "stroke-dasharray": dash(n), points: own.map(([batch, place]) => point(batch, place)).join(" "),
      })),
      ...(workers.length > 1 ? workers.flatMap(name) : []),
      label(0, TOP + 10, bytes(most)), label(0, (MIDDLE + BOTTOM) / 2 + 4, seconds(slowest)),
      ...marks(batches, step, places));
  }
}

const memory = (batch) => batch.memory?.peak_allocated ?? 0;
const dash = (n) => DASHES[n % DASHES.length];

// The batches of each worker, each with its place in the chart.
function byWorker(batches) {
  const found = new Map();
  batches.forEach((batch, place) => {
    if (!found.has(batch.worker)) found.set(batch.worker, []);
    found.get(batch.worker).push([batch, place]);
  });
  return [...found.values()];
}

// The name of a worker beside its kind of line, and the most memory that it has used.
function name(own, n) {
  const y = HEIGHT + NAME * n + 8, [batch] = own[0], most = Math.max(...own.map(([one]) => memory(one)));
  const text = `${workerName(batch.worker ?? "")} on ${device(batch.device)}: ${plural(own.length, "batch", "batches")}, at most ${bytes(most)}`;
  return [svg("path", { class: "memory", d: `M${LEFT} ${y - 4}h32`, "stroke-dasharray": dash(n) }), label(LEFT + 40, y, text)];
}
const label = (x, y, text, anchor = "start") => {
  const node = svg("text", { x, y, "text-anchor": anchor });
  node.textContent = text;
  return node;
};

function bar(batch, x, width, slowest) {
  const height = Math.max(2, ((BOTTOM - MIDDLE) * batch.seconds) / slowest), y = BOTTOM - height;
  const real = (width * batch.frames) / (batch.frames + batch.padded);
  return [
    svg("rect", { class: "real", x, y, width: real, height, rx: Math.min(3, real / 4) }),
    ...(batch.padded ? [svg("rect", { class: "padded", x: x + real, y, width: width - real, height, rx: Math.min(3, width / 4) })] : []),
  ];
}

// The places of batches that are still to come.
function pending(from, to, step) {
  return Array.from({ length: to - from }, (_, n) => svg("rect", {
    class: "pending", x: LEFT + (from + n) * step, y: MIDDLE + 10, width: step * 0.9, height: BOTTOM - MIDDLE - 10, rx: 3,
  }));
}

function marks(batches, step, places) {
  const last = batches.at(-1), end = LEFT + (batches.length - 0.1) * step;
  const text = last.padded ? `last, ${last.padded} of ${last.frames + last.padded} padded` : "last";
  const shown = [label(LEFT, HEIGHT - 6, "first")];
  if (batches.length > 1 && batches.length === places) shown.push(label(Math.max(end, LEFT + 220), HEIGHT - 6, text, "end"));
  return shown;
}

function summary(batches, slowest, most) {
  const last = batches.at(-1);
  return `Time and memory of ${plural(batches.length, "batch", "batches")}: at most ${seconds(slowest)} and ${bytes(most)}. `
    + `The last one has ${plural(last.frames, "frame")} and ${last.padded} padded.`;
}
