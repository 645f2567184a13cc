// Every queue: what waits and runs, and how long a new job would wait.

import { el, replace, say } from "../dom.js";
import { count, seconds } from "../format.js";

export class Queues {
  #rows = new Map();
  #body = el("tbody");
  #empty = el("p", { class: "empty", text: "There is no queue yet. It comes with the first worker." });

  constructor() {
    const heads = ["queue", "waiting", "running", "slots", "estimated wait", ""];
    this.node = el("div", { class: "scroll", role: "group", "aria-label": "Queues", tabindex: "0" }, this.#empty, el("table", {},
      el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col", text })))), this.#body));
  }

  // `actions(queue)` returns the buttons of a queue.
  show(queues, actions = () => []) {
    this.#empty.hidden = queues.length > 0;
    this.#body.parentElement.hidden = queues.length === 0;
    const wanted = new Map(queues.map((queue) => [queue.name, this.#rows.get(queue.name) ?? this.#row(queue)]));
    for (const [name, cells] of this.#rows) if (!wanted.has(name)) cells[0].parentElement.remove();
    this.#rows = wanted;
    for (const queue of queues) {
      const cells = wanted.get(queue.name);
      const wait = queue.estimated_wait_s === null ? "not known yet" : queue.estimated_wait_s ? seconds(queue.estimated_wait_s) : "none";
      const texts = [`${queue.name}${queue.paused ? " (paused)" : ""}`, `${count(queue.waiting)} of ${count(queue.max_waiting)}`, count(queue.running), count(queue.slots), wait];
      for (const [n, text] of texts.entries()) say(cells[n], text);
      const buttons = actions(queue);
      if (cells[5].textContent !== buttons.map((one) => one.textContent).join("")) replace(cells[5], buttons);
    }
  }

  #row() {
    const cells = Array.from({ length: 6 }, (_, n) => el("td", { class: n > 0 && n < 5 ? "number" : "" }));
    this.#body.append(el("tr", {}, cells));
    return cells;
  }
}
