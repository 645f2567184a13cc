// Records of a model that finds facts, drawn over the frames they belong to.

import { el } from "../dom.js";

const POINTS = ["landmarks", "points", "keypoints"];
const LINE_PX = 2, DOT_PX = 2, LETTER_PX = 13;

export class Records {
  canvas = el("canvas", { "aria-hidden": "true" });
  facts = el("p", { class: "facts", hidden: true });
  #records = [];
  #size = { width: 0, height: 0 };
  #draw = () => {};

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(this.canvas);
  }

  clear() {
    this.#records = [];
    this.#draw = () => {};
    this.facts.hidden = true;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  // `text` has a JSON object in each line, with the `time` of its frame. Places in it are in pixels of a frame of this
  // `size`. The browser shows another size where the pixels of the clip are not square.
  load(text, size) {
    this.#size = size;
    this.#records = text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
    this.facts.hidden = this.#records.length === 0;
  }

  // Draw the record of this time over the video.
  draw(video, time) {
    if (!this.#records.length || !video.videoWidth) return;
    const record = this.#at(time);
    this.facts.textContent = record ? plain(record) : "";
    this.#draw = () => this.#paint(video, record);
    this.#draw();
  }

  // The canvas has the pixels of the screen, so that lines stay sharp over a small clip.
  #paint(video, record) {
    const { canvas } = this, density = devicePixelRatio;
    const width = Math.round(canvas.clientWidth * density), height = Math.round(canvas.clientHeight * density);
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    pen.strokeStyle = pen.fillStyle = getComputedStyle(canvas).color;
    pen.lineWidth = LINE_PX * density;
    pen.font = `${LETTER_PX * density}px monospace`;
    const shown = shownPart(video, width, height);
    const place = ([x, y]) => [shown.left + (x / this.#size.width) * shown.width, shown.top + (y / this.#size.height) * shown.height];
    things(record).forEach((thing) => paint(pen, thing, place, DOT_PX * density));
  }

  // The last record that is not later than this time.
  #at(time) {
    let low = 0, high = this.#records.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#records[middle].time <= time + 0.001) low = middle + 1;
      else high = middle;
    }
    return this.#records[low - 1];
  }
}

// Where the picture is in a box of this size: as large as it fits, and in the middle.
function shownPart(video, width, height) {
  const scale = Math.min(width / video.videoWidth, height / video.videoHeight);
  const part = { width: video.videoWidth * scale, height: video.videoHeight * scale };
  return { ...part, left: (width - part.width) / 2, top: (height - part.height) / 2 };
}

// All objects in the record that have a place in the picture.
function things(value) {
  if (Array.isArray(value)) return value.flatMap(things);
  if (value === null || typeof value !== "object") return [];
  if (value.box || POINTS.some((name) => value[name])) return [value];
  return Object.values(value).flatMap(things);
}

function paint(pen, thing, place, dot) {
  if (thing.box) {
    const [left, top, width, height] = thing.box;
    const [x, y] = place([left, top]), [right, bottom] = place([left + width, top + height]);
    pen.strokeRect(x, y, right - x, bottom - y);
    const letters = Number.parseFloat(pen.font);
    pen.fillText(caption(thing), x, Math.max(y - letters / 2, letters));  // a box at the top has it inside
  }
  for (const name of POINTS) for (const point of thing[name] ?? []) {
    const [x, y] = place(point);
    pen.fillRect(x - dot / 2, y - dot / 2, dot, dot);
  }
}

function caption({ label, name, class: kind, score }) {
  return [label ?? name ?? kind, score === undefined ? null : Number(score).toFixed(2)].filter((one) => one !== null && one !== undefined).join(" ");
}

// The record's own numbers and texts, and how many things are in its lists.
function plain(record) {
  return Object.entries(record).filter(([name]) => name !== "time").map(([name, value]) =>
    `${name} ${Array.isArray(value) ? value.length : typeof value === "object" ? JSON.stringify(value) : value}`).join("  ");
}
