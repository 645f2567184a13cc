// A Markdown text that grows. Only its last block is made anew, so a long answer costs no more than a short one.

import { el } from "./dom.js";
import { block, blocksOf } from "./markdown.js";

export class GrowingText {
  #source = "";
  #done = 0;
  #last = null;

  constructor() {
    this.node = el("div", { class: "prose" });
  }

  // Take the whole text so far. It must begin with the text before.
  show(text) {
    const source = text.replaceAll("\r\n", "\n");
    if (source.length === this.#source.length) return;
    this.#source = source;
    const tail = source.slice(this.#done);
    const tokens = blocksOf(tail);
    this.#last?.remove();
    this.#last = null;
    // A block before the last one changes no more: its length in the source tells where the next one begins.
    for (const [n, token] of tokens.entries()) {
      const node = block(token);
      if (node) this.node.append(node);
      if (n < tokens.length - 1) this.#done += token.raw.length;
      else this.#last = node;
    }
  }
}

// The opening fence of a code block that a text leaves open, or an empty text.
export function openFence(text) {
  let open = "";
  for (const line of text.split("\n")) {
    const [, fence] = /^ {0,3}(`{3,}|~{3,})/.exec(line) ?? [];
    if (!fence) continue;
    if (!open) open = line;
    else if (line.trim() === fence && open.trim().startsWith(fence)) open = "";
  }
  return open;
}
