// The view of workers and queues.

import { button, el, say } from "../dom.js";
import { call } from "../api.js";
import { refusal } from "../words.js";
import { Queues } from "./queues.js";
import { Workers } from "./workers.js";

export class FloorView {
  #workers = new Workers();
  #queues = new Queues();
  #error = el("p", { class: "error", role: "alert", hidden: true });
  #unwatch = null;

  constructor(root, floor) {
    this.floor = floor;
    root.append(this.#error,
      el("div", { class: "panel" }, el("div", { class: "title" }, el("h2", { text: "Workers" })), this.#workers.node),
      el("div", { class: "panel" }, el("div", { class: "title" }, el("h2", { text: "Queues" })), this.#queues.node));
  }

  show() {
    this.#unwatch = this.floor.watch(() => {
      this.#workers.show(this.floor, (worker) => this.#workerActs(worker));
      this.#queues.show(this.floor.queues, (queue) => this.#queueActs(queue));
    });
  }

  hide() {
    this.#unwatch?.();
  }

  #workerActs({ name, state }) {
    return state === "draining" ? [] : [button("Drain", () => this.#act(`v1/workers/${encodeURIComponent(name)}/drain`))];
  }

  #queueActs({ name, paused }) {
    const [text, act] = paused ? ["Resume", "resume"] : ["Pause", "pause"];
    return [button(text, () => this.#act(`v1/queues/${encodeURIComponent(name)}/${act}`))];
  }

  async #act(path) {
    try {
      await call(path, { method: "POST" });
      this.#error.hidden = true;
      await this.floor.refresh();
    } catch (problem) {
      this.#error.hidden = false;
      say(this.#error, refusal(problem));
    }
  }
}
