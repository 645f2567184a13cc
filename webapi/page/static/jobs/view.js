// The view of all jobs of this key, newest first.

import { button, el, hide, say } from "../dom.js";
import { call, cancel, open } from "../api.js";
import { Poll } from "../poll.js";
import { refusal } from "../words.js";
import { Filters } from "./filters.js";
import { JobList } from "./list.js";
import { Sheet } from "./sheet.js";
import { Table } from "./table.js";

const EVERY_MS = 2000;

export class JobsView {
  #list = new JobList();
  #poll = new Poll(() => this.#refresh(), EVERY_MS);
  #filters = new Filters(() => this.#choose(), () => this.#draw());
  #note = el("p", { class: "empty", text: "Asking the API." });
  #scroll = el("div", { class: "scroll", role: "group", "aria-label": "List of jobs", tabindex: "0" });
  #error = el("p", { class: "error", role: "alert", hidden: true });
  #more = button("Load older jobs", () => this.#act(() => this.#list.loadMore()), { hidden: true });
  #sheet = new Sheet(() => this.#closed());
  #table = new Table({
    cancel: (job) => this.#act(() => cancel(job.id)),
    retry: (job) => this.#act(() => call(`v1/jobs/${job.id}/retry`, { method: "POST" })),
    open: (job) => { location.hash = job.kind === "video" ? `video/${job.id}` : `jobs/${job.id}`; },
    download: (job) => this.#act(async () => { await open(job.id); download(job); }),
  });

  constructor(root) {
    const title = el("div", { class: "title" }, el("h2", { text: "Jobs" }), this.#filters.node);
    this.#scroll.append(this.#table.node);
    root.append(el("div", { class: "panel" }, title, this.#error, this.#note, this.#scroll, this.#more));
  }

  // The button that opened the sheet has the focus again, unless it is gone since then.
  #closed() {
    if (document.activeElement === document.body) this.#scroll.focus({ preventScroll: true });
    if (location.hash.startsWith("#jobs/")) location.hash = "jobs";
  }

  // `id` opens this job.
  show(id) {
    this.#poll.start();
    if (id) this.#sheet.open(id);
    else if (this.#sheet.isOpen) this.#sheet.close();
  }

  hide() {
    this.#poll.stop();
    if (this.#sheet.isOpen) this.#sheet.close();
  }

  async #refresh() {
    try {
      await this.#list.refresh();
      this.#error.hidden = true;
    } catch (problem) {
      this.#fail(problem);
      throw problem;
    }
    this.#draw();
  }

  #choose() {
    this.#list.choose(this.#filters.chosen);
    this.#poll.now();
  }

  #draw() {
    const all = this.#list.all, shown = all.filter((job) => this.#filters.matches(job));
    this.#table.node.hidden = shown.length === 0;
    this.#note.hidden = shown.length > 0;
    say(this.#note, this.#filters.empty ? "There is no job yet. Send a message under Chat, or start a clip under Video."
      : "No job fits. Change the search or the choice above, or load older jobs.");
    hide(this.#more, !this.#list.hasMore || all.length === 0, this.#scroll);
    return this.#table.show(shown);
  }

  async #act(run) {
    try {
      await run();
      this.#error.hidden = true;
      await this.#refresh();
    } catch (problem) {
      this.#fail(problem);
    }
  }

  #fail(problem) {
    this.#error.hidden = problem.status === 0;  // the banner says it
    say(this.#error, refusal(problem));
  }
}

function download(job) {
  el("a", { href: `v1/jobs/${job.id}/result`, download: `${job.id}.${job.result?.content_type === "video/mp4" ? "mp4" : "ndjson"}` }).click();
}
