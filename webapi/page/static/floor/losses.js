// Workers that have gone without a goodbye, and where their jobs are now.

const SHOWN_MS = 90_000;

export class Losses {
  #alive = new Map();
  #lost = new Map();
  #jobs = [];

  // Return the lost workers as {worker, at, jobs, moved}: `moved` of the `jobs` run on another worker by now.
  after(workers, running, now = Date.now()) {
    const names = new Set(workers.map((worker) => worker.name));
    for (const worker of this.#alive.values()) {
      if (names.has(worker.name) || worker.state === "draining") continue;
      const ids = this.#jobs.filter((job) => job.worker === worker.name).map((job) => job.id);
      this.#lost.set(worker.name, { worker, at: now, ids, moved: new Set() });
    }
    for (const [name, loss] of this.#lost) {
      for (const job of running) if (loss.ids.includes(job.id) && job.worker !== name) loss.moved.add(job.id);
      if (now - loss.at > SHOWN_MS || names.has(name)) this.#lost.delete(name);
    }
    this.#alive = new Map(workers.map((worker) => [worker.name, worker]));
    this.#jobs = running;
    return [...this.#lost.values()].map(({ worker, at, ids, moved }) => ({ worker, at, jobs: ids.length, moved: moved.size }));
  }
}
