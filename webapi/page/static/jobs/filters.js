// Which jobs are shown: by kind and state, which the API chooses, and by search in those that are loaded.

import { el } from "../dom.js";
import { what } from "./describe.js";

const KINDS = { "": "all kinds", chat: "chats", video: "videos" };
const STATES = { "": "all states", queued: "queued", running: "running", succeeded: "succeeded", failed: "failed", canceled: "canceled" };

export class Filters {
  #kind = select("Kind", KINDS);
  #state = select("State", STATES);
  #search = el("input", { type: "search", placeholder: "Search", "aria-label": "Search" });

  // `onChoose` is called when the API must be asked again, `onSearch` when the text changes.
  constructor(onChoose, onSearch) {
    this.node = el("div", { class: "filters" }, this.#search, this.#kind, this.#state);
    for (const one of [this.#kind, this.#state]) one.addEventListener("change", onChoose);
    this.#search.addEventListener("input", onSearch);
  }

  get chosen() {
    return { kind: this.#kind.value, state: this.#state.value };
  }

  get empty() {
    return !this.#kind.value && !this.#state.value && !this.#search.value;
  }

  matches(job) {
    const text = `${job.id} ${what(job)} ${job.state} ${job.worker ?? ""} ${job.error?.code ?? ""} ${job.error?.message ?? ""}`.toLowerCase();
    return this.#search.value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }
}

function select(label, values) {
  return el("select", { "aria-label": label }, Object.entries(values).map(([value, text]) => el("option", { value, text })));
}
