// Whether the API and its Redis answer, and the banner that says so.

import { say } from "./dom.js";

const TEXTS = {
  away: "Redis is away. Running jobs go on, and nothing is lost. This page tries again by itself. If it stays away, start Redis again.",
  unreachable: "The API does not answer. Check that it runs. This page tries again by itself.",
};

export function report(state) {
  const banner = document.getElementById("banner");
  banner.hidden = state === "ok";
  say(banner, TEXTS[state] ?? "");
}
