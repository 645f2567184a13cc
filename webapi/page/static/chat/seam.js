// The seam in an answer: here its worker was lost, and another one goes on.

import { el, say } from "../dom.js";
import { seconds, workerName } from "../format.js";
import { reason } from "../words.js";

export class Seam {
  #text = el("span");
  #gap = el("em");
  #next = el("span");

  constructor() {
    this.node = el("div", { class: "seam", role: "note" }, this.#text, this.#gap, this.#next);
  }

  show(seam) {
    say(this.#text, `${seam.from ? workerName(seam.from) : "its worker"} ${reason(seam.reason)}`);
    say(this.#gap, seam.gap === null ? "…" : seconds(seam.gap));
    say(this.#next, seam.to ? `${workerName(seam.to)} goes on` : "waiting for another worker");
  }
}
