// Follow a job's events without a gap: the browser reconnects, and a new token replaces one that has expired.

import { call, open as openJob } from "./api.js";

const TYPES = ["queued", "started", "token", "reasoning", "tool_call", "batch", "progress", "requeued"];
export const ENDS = ["succeeded", "failed", "canceled"];
const MAX_PAUSE_MS = 10_000;

// Call `onEvent` with each event after number `after`, the terminal one last. If the job does not exist, the last
// event is `{type: "gone"}`. Return a function that ends it.
export function follow(id, onEvent, after = 0) {
  let source = null, timer = 0, last = after, pause = 500, stopped = false;

  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    source?.close();
  };

  const take = (message) => {
    const event = JSON.parse(message.data);
    if (stopped || event.n <= last) return;
    last = event.n;
    pause = 500;
    if (ENDS.includes(event.type)) stop();
    onEvent(event);
  };

  const again = () => {
    source?.close();
    clearTimeout(timer);
    timer = setTimeout(open, pause);
    pause = Math.min(2 * pause, MAX_PAUSE_MS);
  };

  async function open() {
    try {
      await call(`v1/jobs/${id}`);  // it says why, where an EventSource only fails
      await openJob(id);
      if (stopped) return;
      source = new EventSource(`v1/jobs/${id}/events?starting_after=${last}`);
      for (const type of [...TYPES, ...ENDS]) source.addEventListener(type, take);
      source.onerror = () => { if (source.readyState === EventSource.CLOSED && !stopped) again(); };
    } catch (problem) {
      if (stopped) return;
      if (problem.status !== 404) return again();
      stop();
      onEvent({ type: "gone" });
    }
  }

  open();
  return stop;
}
