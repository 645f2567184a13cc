// How fast the running jobs go on, by unit: the difference between two looks.

export class Speeds {
  #before = new Map();
  #at = null;

  // Return such as {tokens: 61.2, frames: 0}, a second. The first look gives no speeds.
  after(running, now = performance.now()) {
    const passed = (now - this.#at) / 1000, first = this.#at === null;
    const speeds = { tokens: 0, frames: 0 };
    for (const { id, progress } of running) {
      const gained = progress.done - (this.#before.get(id) ?? 0);
      if (gained > 0) speeds[progress.unit] = (speeds[progress.unit] ?? 0) + gained / passed;
    }
    this.#before = new Map(running.map(({ id, progress }) => [id, progress.done]));
    this.#at = now;
    return first ? {} : speeds;
  }
}
