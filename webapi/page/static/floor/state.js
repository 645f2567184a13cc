// What runs where: workers, queues and running jobs, asked for every two seconds while somebody looks.

import { call } from "../api.js";
import { Poll } from "../poll.js";
import { Losses } from "./losses.js";
import { Speeds } from "./speeds.js";

const EVERY_MS = 2000;
const SAMPLES = 90;

export class FloorState {
  #listeners = new Set();
  #losses = new Losses();
  #speeds = new Speeds();
  #poll = new Poll(() => this.#ask(), EVERY_MS);

  constructor() {
    // `workers` is null until the first answer came. `memory` has the last allocated bytes of each worker.
    Object.assign(this, { workers: null, queues: [], running: [], lost: [], speeds: {}, memory: new Map(), problem: null });
    this.#poll.start();
  }

  // Call the listener now, and after each change. Return a function that ends it.
  watch(listener) {
    this.#listeners.add(listener);
    if (this.workers || this.problem) listener(this);
    return () => this.#listeners.delete(listener);
  }

  refresh() {
    return this.#poll.now();
  }

  get waiting() {
    return this.queues.reduce((sum, queue) => sum + queue.waiting, 0);
  }

  async #ask() {
    try {
      const [{ workers }, { queues }, { jobs }] = await Promise.all(
        ["v1/workers", "v1/queues", "v1/jobs?state=running&limit=100"].map((path) => call(path)));
      workers.sort((a, b) => a.kind.localeCompare(b.kind) || a.name.localeCompare(b.name));
      const lost = this.#losses.after(workers, jobs);
      Object.assign(this, { workers, queues, running: jobs, lost, speeds: this.#speeds.after(jobs), problem: null });
      this.#remember(workers);
    } catch (problem) {
      this.problem = problem;
      if (problem.status === 403) this.#poll.stop();
      throw problem;
    } finally {
      for (const listener of this.#listeners) listener(this);
    }
  }

  #remember(workers) {
    const before = this.memory;
    this.memory = new Map(workers.map(({ name, memory }) =>
      [name, [...(before.get(name) ?? []), memory.allocated ?? 0].slice(-SAMPLES)]));
  }
}
