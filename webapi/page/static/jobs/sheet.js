// One job in a dialog: what it is, its answer as it comes, and its facts.

import { button, el, say } from "../dom.js";
import { call } from "../api.js";
import { Answer } from "../chat/answer.js";
import { Timeline } from "../chat/timeline.js";
import { follow } from "../follow.js";
import { refusal } from "../words.js";
import { what } from "./describe.js";

export class Sheet {
  #stop = null;
  #title = el("h2");
  #what = el("p", { class: "soft" });
  #body = el("div");
  #dialog = el("dialog", { class: "sheet", "aria-label": "Job" },
    el("div", { class: "title" }, this.#title, button("Close", () => this.#dialog.close())), this.#what, this.#body);

  constructor(onClose) {
    document.body.append(this.#dialog);
    this.#dialog.addEventListener("close", () => {
      this.#stop?.();
      this.#stop = null;
      onClose();
    });
  }

  get isOpen() {
    return this.#dialog.open;
  }

  close() {
    this.#dialog.close();
  }

  async open(id) {
    this.#stop?.();
    this.#stop = null;
    say(this.#title, `Job ${id}`);
    say(this.#what, "");
    this.#body.replaceChildren();
    if (!this.isOpen) this.#dialog.showModal();
    try {
      this.#show(await call(`v1/jobs/${id}`));
    } catch (problem) {
      say(this.#what, refusal(problem));
    }
  }

  #show(job) {
    say(this.#what, what(job));
    const answer = new Answer(job.model), timeline = new Timeline();
    this.#body.replaceChildren(answer.node);
    let due = false;
    this.#stop = follow(job.id, (event) => {
      timeline.take(event);
      if (due) return;
      due = true;
      requestAnimationFrame(() => { due = false; answer.show(timeline); });
    });
  }
}
