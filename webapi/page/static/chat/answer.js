// One answer: its parts as they come, with the seams between them.

import { el, say } from "../dom.js";
import { GrowingText, openFence } from "../growing.js";
import { cause } from "../words.js";
import { Seam } from "./seam.js";
import { facts } from "./facts.js";

export class Answer {
  #parts = [];
  #body = el("div");
  #reasoning = el("p", { class: "reasoning" });
  #thoughts = el("details", { class: "thoughts", hidden: true }, el("summary", { text: "Reasoning" }), this.#reasoning);
  #end = el("p", { class: "error", hidden: true });
  #facts = el("p", { class: "facts", hidden: true });

  constructor(author) {
    this.node = el("article", { class: "turn", "aria-label": `Answer of ${author}` },
      el("p", { class: "author", text: author }), this.#thoughts, this.#body, this.#end, this.#facts);
  }

  show(timeline) {
    say(this.#reasoning, timeline.reasoning);
    this.#thoughts.hidden = !timeline.reasoning;
    for (const [n, part] of timeline.parts.entries()) this.#part(n, part, timeline.parts).show(part.seam ?? this.#source(n, part, timeline.parts));
    this.node.classList.toggle("writing", timeline.state === "running");
    if (timeline.ended) this.#finish(timeline);
  }

  #part(n, part) {
    if (!this.#parts[n]) {
      this.#parts[n] = part.seam ? new Seam() : new GrowingText();
      this.#body.append(this.#parts[n].node);
    }
    return this.#parts[n];
  }

  // A part behind a seam begins within the code block that the text before has left open.
  #source(n, part, parts) {
    if (n === 0) return part.text;
    const fence = openFence(parts.slice(0, n).map((one) => one.text ?? "").join(""));
    return fence ? `${fence}\n${part.text}` : part.text;
  }

  #finish(timeline) {
    const words = ENDINGS[timeline.state]?.(timeline);
    this.#end.hidden = !words;
    say(this.#end, words ?? "");
    const known = facts(timeline).join("  ");
    this.#facts.hidden = !known;
    say(this.#facts, known);
  }
}

const ENDINGS = {
  failed: (timeline) => `The answer failed: ${cause(timeline.error)} Send the message again.`,
  canceled: () => "You stopped this answer.",
  gone: () => "The server no longer has this answer. Send the message again.",
};
