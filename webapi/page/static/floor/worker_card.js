// A worker: its device, model and state, its slots, its memory over time, and its jobs.

import { el, replace, say } from "../dom.js";
import { bytes, count, device, plural, shortId, workerName } from "../format.js";
import { Meter } from "./meter.js";
import { Sparkline } from "./sparkline.js";

export class WorkerCard {
  #device = el("b");
  #what = el("code");
  #name = el("code");
  #slots = el("div", { class: "slots", "aria-hidden": "true" });
  #meter = new Meter();
  #line = new Sparkline();
  #used = el("code");
  #memory = el("code");
  #jobs = el("ul", { class: "its-jobs" });
  actions = el("div", { class: "actions" });

  constructor() {
    this.node = el("article", { class: "worker" },
      el("div", {}, this.#device, this.#what), el("div", { class: "who" }, this.#name, this.actions), this.#slots, this.#meter.node,
      el("div", {}, this.#used, this.#memory), this.#line.node, this.#jobs);
  }

  show(worker, samples, running) {
    this.node.classList.toggle("lost", false);
    say(this.#device, device(worker.device));
    say(this.#what, `${worker.kind} · ${worker.engine} · ${worker.state}`);
    say(this.#name, `${worker.model}  ${workerName(worker.name)}`);
    this.#showSlots(worker);
    const { allocated = 0, reserved = 0, total = 0, source } = worker.memory;
    this.#meter.show(allocated, reserved, total);
    say(this.#used, `${count(worker.running)} of ${plural(worker.slots, "slot")}`);
    say(this.#memory, source === "rss" ? `${bytes(allocated)} resident` : total ? `${bytes(reserved)} of ${bytes(total)}` : "");
    this.#line.show(samples ?? []);
    this.#showJobs(running.filter((job) => job.worker === worker.name));
  }

  showLost({ worker, at, jobs, moved }) {
    this.node.classList.add("lost");
    say(this.#device, device(worker.device));
    say(this.#what, `lost ${Math.round((Date.now() - at) / 1000)} s ago${jobs ? ` · ${count(moved)} of ${plural(jobs, "job")} moved` : ""}`);
    say(this.#name, `${worker.model}  ${workerName(worker.name)}`);
    this.#showSlots({ slots: worker.slots, running: 0 });
    say(this.#used, jobs ? (moved === jobs ? "its jobs go on elsewhere" : "its jobs go back to the front of their queue") : "it ran none of your jobs");
    say(this.#memory, "");
    for (const { node } of [this.#meter, this.#line]) node.toggleAttribute("hidden", true);
    replace(this.#jobs, []);
    replace(this.actions, []);
  }

  #showSlots({ slots, running }) {
    const shown = Math.min(slots, 32), on = Math.min(shown, Math.ceil((running * shown) / slots));
    while (this.#slots.childElementCount > shown) this.#slots.lastChild.remove();
    while (this.#slots.childElementCount < shown) this.#slots.append(el("i"));
    for (const [n, slot] of [...this.#slots.children].entries()) slot.classList.toggle("on", n < on);
  }

  #showJobs(jobs) {
    const shown = jobs.slice(0, 4).map((job) => el("li", {},
      el("a", { href: `#jobs/${job.id}`, text: shortId(job.id) }), ` ${job.kind}, ${done(job.progress)}`));
    if (jobs.length > shown.length) shown.push(el("li", { text: `and ${count(jobs.length - shown.length)} more` }));
    replace(this.#jobs, shown);
  }
}

export function done({ done: number, total, unit }) {
  return total ? `${count(number)} of ${count(total)} ${unit}` : `${count(number)} ${unit}`;
}
