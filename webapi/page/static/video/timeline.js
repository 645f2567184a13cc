// What a video's events tell: its place, its batches, its progress and the time that is left.

import { clock, count, plural } from "../format.js";

export class VideoTimeline {
  constructor() {
    Object.assign(this, {
      batches: new Map(), state: "queued", position: null, attempt: 0, worker: null, device: null, done: 0, total: null,
      seams: [], error: null, result: null, usage: null, startedAt: null, startedWith: 0, at: null,
    });
  }

  get ended() {
    return !["queued", "running"].includes(this.state);
  }

  // Seconds that are left at the speed of this attempt, or null.
  get left() {
    const speed = (this.done - this.startedWith) / (this.at - this.startedAt);
    return this.total && speed > 0 && Number.isFinite(speed) ? (this.total - this.done) / speed : null;
  }

  take(event) {
    const time = Date.parse(event.time) / 1000;
    this.attempt = event.attempt ?? this.attempt;
    this[`_${event.type}`]?.(event, time);
  }

  _queued(event) {
    this.position = event.position;
  }

  _started(event, time) {
    Object.assign(this, { state: "running", position: null, worker: event.worker, device: event.device, startedAt: time, at: time, startedWith: this.done });
    const seam = this.seams.at(-1);
    if (seam && !seam.to) Object.assign(seam, { to: event.worker, gap: time - seam.at });
  }

  _batch(event) {
    this.batches.set(event.index, { worker: this.worker, device: this.device, ...event });
  }

  _progress(event, time) {
    Object.assign(this, { done: event.done, total: event.total, at: time });
    if (event.done < this.startedWith) this.startedWith = event.done;  // the last batches are repeated
  }

  _requeued(event, time) {
    this.state = "queued";
    this.seams.push({ reason: event.reason, from: this.worker, to: null, gap: null, at: time });
  }

  _succeeded(event) {
    Object.assign(this, { state: "succeeded", result: event.result, usage: event.usage, done: event.usage?.frames ?? this.done });
  }

  _failed(event) {
    Object.assign(this, { state: "failed", error: { code: event.code, message: event.message } });
  }

  _canceled() {
    this.state = "canceled";
  }

  _gone() {
    this.state = "gone";
  }
}

// How the job stands, in one line.
export function standing(timeline) {
  const { state, position, done, total, left, usage } = timeline;
  if (state === "queued") return position ? `place ${count(position)} in the queue` : "waiting for a worker";
  const frames = total ? `${count(done)} of ${plural(total, "frame")}` : plural(done, "frame");
  if (state === "running") return [frames, padding(timeline), left === null ? "" : `${clock(left)} left`].filter(Boolean).join("  ");
  if (state !== "succeeded") return "";
  return [plural(usage?.frames ?? done, "frame"), plural(usage?.batches ?? timeline.batches.size, "batch", "batches"),
    padding(timeline), usage ? `${usage.seconds.toFixed(1)} s` : ""].filter(Boolean).join("  ");
}

function padding({ batches }) {
  const last = [...batches.values()].findLast((batch) => batch.padded);
  const first = batches.get(0);
  if (!first) return "";
  return `${first.frames + first.padded} a batch${last ? `, the last ${last.frames} + ${last.padded} padded` : ""}`;
}
