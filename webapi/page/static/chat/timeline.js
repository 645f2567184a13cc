// What a chat's events tell: its text in parts, the seams between them, its place, speed and end.

export class Timeline {
  constructor() {
    Object.assign(this, {
      // Parts are {text} and {seam: {reason, from, to, gap}}; the gap is in seconds.
      parts: [], reasoning: "", state: "queued", position: null, attempt: 0, worker: null,
      tokens: 0, limit: null, queuedAt: null, firstAt: null, lastAt: null, firstCount: 0, error: null, finish: null,
    });
  }

  get text() {
    return this.parts.map((part) => part.text ?? "").join("");
  }

  get ended() {
    return !["queued", "running"].includes(this.state);
  }

  // Seconds from the submission to the first token, or null.
  get firstToken() {
    return this.firstAt === null ? null : this.firstAt - this.queuedAt;
  }

  // Tokens a second since the first token, without the gaps in which no worker had the job, or null.
  get rate() {
    const gaps = this.parts.reduce((sum, part) => sum + (part.seam?.gap ?? 0), 0);
    const passed = this.lastAt - this.firstAt - gaps;
    return this.firstAt !== null && passed > 0 ? (this.tokens - this.firstCount) / passed : null;
  }

  take(event) {
    const time = Date.parse(event.time) / 1000;
    this.attempt = event.attempt ?? this.attempt;
    this[`_${event.type}`]?.(event, time);
  }

  _queued(event, time) {
    this.queuedAt ??= time;
    this.position = event.position;
  }

  _started(event) {
    this.state = "running";
    this.position = null;
    this.worker = event.worker;
    if (this.#seam) this.#seam.to = event.worker;
  }

  _token(event, time) {
    this.#count(event, time);
    const last = this.parts.at(-1);
    if (last && !last.seam) last.text += event.text;
    else if (event.text) this.parts.push({ text: event.text });
  }

  _reasoning(event, time) {
    this.#count(event, time);
    this.reasoning += event.text;
  }

  _tool_call(event, time) {
    this.#count(event, time);
  }

  _requeued(event) {
    this.state = "queued";
    this.parts.push({ seam: { reason: event.reason, from: this.worker, to: null, gap: null } });
  }

  _succeeded(event) {
    this.state = "succeeded";
    this.finish = event.result?.finish_reason ?? null;
    this.tokens = event.usage?.completion_tokens ?? this.tokens;
  }

  _failed(event) {
    this.state = "failed";
    this.error = { code: event.code, message: event.message };
  }

  _canceled() {
    this.state = "canceled";
  }

  _gone() {
    this.state = "gone";
  }

  get #seam() {
    return this.parts.findLast((part) => part.seam && part.seam.gap === null)?.seam;
  }

  #count(event, time) {
    const seam = this.#seam;
    if (seam && this.lastAt !== null) seam.gap = Math.max(0, time - this.lastAt);
    if (this.firstAt === null) Object.assign(this, { firstAt: time, firstCount: event.count });
    this.tokens += event.count;
    this.lastAt = time;
  }
}
