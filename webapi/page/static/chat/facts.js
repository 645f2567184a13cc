// The figures of an answer: time to the first token, speed, attempts and length.

import { count, plural, rate, seconds } from "../format.js";

export function facts(timeline) {
  const { firstToken, rate: speed, attempt, tokens, limit } = timeline;
  return [
    firstToken !== null ? `first token ${seconds(firstToken)}` : null,
    speed !== null ? `${rate(speed)} tokens/s` : null,
    attempt > 1 ? `attempt ${attempt}` : null,
    tokens ? (limit ? `${count(tokens)} of ${count(limit)}` : plural(tokens, "token")) : null,
  ].filter(Boolean);
}

// What happens now, in one line.
export function progress(timeline) {
  if (timeline.state === "queued" && timeline.position) return `place ${count(timeline.position)} in the queue`;
  if (timeline.state === "queued") return "waiting for a worker";
  return facts(timeline).join("  ") || "reading the prompt";
}
