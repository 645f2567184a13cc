// The last values as a line, from 0 to their largest.

import { svg } from "../dom.js";

const WIDTH = 300, HEIGHT = 24;

export class Sparkline {
  #line = svg("polyline", { fill: "none" });

  constructor() {
    this.node = svg("svg", { class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": "Memory over time" }, this.#line);
  }

  show(values) {
    const top = Math.max(...values, 1), step = WIDTH / Math.max(values.length - 1, 1);
    this.node.toggleAttribute("hidden", values.length < 2 || top <= 1);
    this.#line.setAttribute("points", values.map((value, n) => `${n * step},${HEIGHT - 2 - ((HEIGHT - 4) * value) / top}`).join(" "));
  }
}
