// Call a function again and again while the page is visible. After an error it waits longer each time.

export class Poll {
  #timer = 0;
  #active = false;
  #busy = false;
  #failures = 0;

  constructor(run, everyMs) {
    Object.assign(this, { run, everyMs });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.now(); });
  }

  start() {
    this.#active = true;
    this.now();
  }

  stop() {
    this.#active = false;
    clearTimeout(this.#timer);
  }

  async now() {
    clearTimeout(this.#timer);
    if (!this.#active || this.#busy || document.hidden) return;
    this.#busy = true;
    try {
      await this.run();
      this.#failures = 0;
    } catch {
      this.#failures += 1;  // the banner says it already
    }
    this.#busy = false;
    const pause = Math.min(this.everyMs * 2 ** Math.min(this.#failures, 3), 10_000);
    if (this.#active) this.#timer = setTimeout(() => this.now(), pause);
  }
}
