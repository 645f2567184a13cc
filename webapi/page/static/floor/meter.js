// Memory as a bar: what is allocated, and what is reserved beyond it.

import { svg } from "../dom.js";

const WIDTH = 1000;

export class Meter {
  #allocated = svg("rect", { class: "allocated", height: 6 });
  #reserved = svg("rect", { class: "reserved", height: 6 });

  constructor() {
    this.node = svg("svg", { class: "meter", viewBox: `0 0 ${WIDTH} 6`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.#reserved, this.#allocated);
  }

  show(allocated, reserved, total) {
    this.node.toggleAttribute("hidden", !total);
    this.#allocated.setAttribute("width", total ? (WIDTH * allocated) / total : 0);
    this.#reserved.setAttribute("width", total ? (WIDTH * Math.max(reserved, allocated)) / total : 0);
  }
}
