// The figures in the header.

import { say } from "../dom.js";
import { count, rate } from "../format.js";

export function showNow(floor) {
  const { tokens, frames } = floor.speeds;
  const shown = { tokens: number(tokens), frames: number(frames), waiting: floor.workers ? count(floor.waiting) : "–" };
  for (const [name, text] of Object.entries(shown)) say(document.getElementById(`now-${name}`), text);
}

const number = (value) => (value === undefined ? "–" : value ? rate(value) : "0");
