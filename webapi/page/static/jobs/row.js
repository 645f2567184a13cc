// A job as a row of the table. Only what has changed is written.

import { button, el, replace, say } from "../dom.js";
import { ago, shortId, workerName } from "../format.js";
import { state, what } from "./describe.js";

export class Row {
  #id = el("code");
  #what = cell("what");
  #state = cell();
  #worker = cell("mono");
  #age = cell("number");
  #actions = cell("buttons");
  #shown = "";

  // `acts` has the functions `cancel`, `retry`, `open`, `download` and `remove`, each for a job.
  constructor(acts) {
    this.acts = acts;
    this.node = el("tr", { role: "row" }, el("td", { role: "cell" }, this.#id), this.#what, this.#state, this.#worker, this.#age, this.#actions);
  }

  show(job) {
    say(this.#age, ago(job.created_at));
    say(this.#state, state(job));
    const shown = JSON.stringify([job.state, job.attempt, job.worker, job.id]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.node.dataset.state = job.state;
    say(this.#id, shortId(job.id));
    this.#id.id = `job-${job.id}`;
    this.#id.title = job.id;
    say(this.#what, what(job));
    say(this.#worker, job.worker ? workerName(job.worker) : "");
    replace(this.#actions, this.#buttons(job));
  }

  #buttons(job) {
    const named = (text, act) => button(text, () => act(job), { "aria-describedby": `job-${job.id}` });
    const { cancel, retry, open, download } = this.acts;
    return [
      ["queued", "running"].includes(job.state) ? named("Cancel", cancel) : null,
      ["failed", "canceled"].includes(job.state) && retry ? named("Retry", retry) : null,
      job.state === "succeeded" && job.kind === "video" ? named("Download", download) : null,
      named("Open", open),
    ].filter(Boolean);
  }
}

// The roles keep it a table where CSS makes blocks of its rows.
const cell = (name) => el("td", { role: "cell", class: name });
