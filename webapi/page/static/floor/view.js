// The view of workers and queues.

import { el } from "../dom.js";
import { Queues } from "./queues.js";
import { Workers } from "./workers.js";

export class FloorView {
  #workers = new Workers();
  #queues = new Queues();
  #unwatch = null;

  constructor(root, floor) {
    this.floor = floor;
    root.append(
      el("div", { class: "panel" }, el("div", { class: "title" }, el("h2", { text: "Workers" })), this.#workers.node),
      el("div", { class: "panel" }, el("div", { class: "title" }, el("h2", { text: "Queues" })), this.#queues.node));
  }

  show() {
    this.#unwatch = this.floor.watch(() => {
      this.#workers.show(this.floor);
      this.#queues.show(this.floor.queues);
    });
  }

  hide() {
    this.#unwatch?.();
  }
}
