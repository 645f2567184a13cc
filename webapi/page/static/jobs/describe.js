// A job in words: what it is, and how it stands.

import { count, plural, seconds } from "../format.js";
import { done } from "../floor/worker_card.js";
import { cause } from "../words.js";

export function what({ kind, model, parameters }) {
  const own = Object.entries(parameters).map(([name, value]) => `${name.replaceAll("_", " ")} ${short(value)}`);
  return [kind, model, ...own].join(", ");
}

export function state(job, now = Date.now()) {
  return (STATES[job.state] ?? (() => job.state))(job, now);
}

const STATES = {
  queued: ({ queue_position: place, estimated_start: start, attempt }, now) => [
    place ? `place ${count(place)}` : "waiting",
    start ? `about ${seconds(Math.max(0, (Date.parse(start) - now) / 1000))}` : "",
    attempt ? `again, after attempt ${attempt}` : "",
  ].filter(Boolean).join(", "),
  running: ({ progress, attempt }) => `running, ${done(progress)}${attempt > 1 ? `, attempt ${attempt}` : ""}`,
  succeeded: ({ progress, attempt, started_at: from, finished_at: to }) => {
    const passed = (Date.parse(to) - Date.parse(from)) / 1000;
    const amount = progress.unit === "tokens" ? plural(progress.done, "token") : plural(progress.done, "frame");
    return `done, ${amount} in ${seconds(passed)}${attempt > 1 ? `, attempt ${attempt}` : ""}`;
  },
  failed: ({ error }) => `failed: ${cause(error)}`,
  canceled: () => "canceled",
};

function short(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}
