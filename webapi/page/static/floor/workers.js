// The cards of all workers, the lost ones in red. The view and the side of the chat both show them.

import { el, replace, say } from "../dom.js";
import { refusal } from "../words.js";
import { WorkerCard } from "./worker_card.js";

export class Workers {
  #cards = new Map();
  #list = el("div", { class: "workers" });
  #note = el("p", { class: "empty", text: "Asking the API." });

  constructor() {
    this.node = el("div", {}, this.#note, this.#list);
  }

  // `actions(worker)` returns the buttons of a worker.
  show(floor, actions = () => []) {
    const note = noteOf(floor);
    this.#note.hidden = !note;
    say(this.#note, note);
    const wanted = new Map();
    for (const worker of floor.workers ?? []) {
      const card = this.#card(worker.name, wanted);
      card.show(worker, floor.memory.get(worker.name), floor.running);
      const buttons = actions(worker);
      if (card.actions.textContent !== buttons.map((one) => one.textContent).join("")) replace(card.actions, buttons);
    }
    for (const loss of floor.lost) this.#card(loss.worker.name, wanted).showLost(loss);
    for (const [name, card] of this.#cards) if (!wanted.has(name)) card.node.remove();
    this.#cards = wanted;
  }

  #card(name, wanted) {
    const card = this.#cards.get(name) ?? new WorkerCard();
    wanted.set(name, card);
    if (!card.node.isConnected) this.#list.append(card.node);
    return card;
  }
}

function noteOf({ workers, problem }) {
  if (problem?.status === 403) return refusal(problem);
  if (problem || workers?.length) return "";
  return "No worker is here. Start one: `stoker worker chat` or `stoker worker video`.";
}
