// Records of a model that finds facts, drawn over the frames they belong to.

import { el } from "../dom.js";

const POINTS = ["landmarks", "points", "keypoints"];

export class Records {
  canvas = el("canvas", { "aria-hidden": "true" });
  facts = el("p", { class: "facts", hidden: true });
  #records = [];

  clear() {
    this.#records = [];
    this.facts.hidden = true;
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  // `text` has a JSON object in each line, with the `time` of its frame.
  load(text) {
    this.#records = text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  }

  get count() {
    return this.#records.length;
  }

  // Draw the record of this time over the video.
  draw(video, time) {
    const record = this.#at(time);
    if (!record || !video.videoWidth) return;
    const { canvas } = this;
    if (canvas.width !== video.videoWidth) canvas.width = video.videoWidth;
    if (canvas.height !== video.videoHeight) canvas.height = video.videoHeight;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = pen.fillStyle = getComputedStyle(canvas).color;
    pen.lineWidth = Math.max(1, canvas.width / 320);
    pen.font = `${Math.max(10, canvas.width / 40)}px monospace`;
    things(record).forEach((thing) => paint(pen, thing));
    this.facts.hidden = false;
    this.facts.textContent = plain(record);
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

// All objects in the record that have a place in the picture.
function things(value) {
  if (Array.isArray(value)) return value.flatMap(things);
  if (value === null || typeof value !== "object") return [];
  if (value.box || POINTS.some((name) => value[name])) return [value];
  return Object.values(value).flatMap(things);
}

function paint(pen, thing) {
  if (thing.box) {
    pen.strokeRect(...thing.box);
    pen.fillText(caption(thing), thing.box[0], thing.box[1] - 4);
  }
  const size = pen.lineWidth;
  for (const name of POINTS) for (const [x, y] of thing[name] ?? []) pen.fillRect(x - size / 2, y - size / 2, size, size);
}

function caption({ label, name, class: kind, score }) {
  return [label ?? name ?? kind, score === undefined ? null : Number(score).toFixed(2)].filter((one) => one !== null && one !== undefined).join(" ");
}

// The record's own numbers and texts, and how many things are in its lists.
function plain(record) {
  return Object.entries(record).filter(([name]) => name !== "time").map(([name, value]) =>
    `${name} ${Array.isArray(value) ? value.length : typeof value === "object" ? JSON.stringify(value) : value}`).join("  ");
}
