// The turns on the screen. It stays at the end while an answer grows, unless the reader has scrolled up.

import { el } from "../dom.js";
import { Answer } from "./answer.js";

const NEAR_PX = 40;

export class Log {
  #empty = el("p", { class: "empty", text: "Ask something. If the worker dies while it answers, you will see another one go on." });

  constructor() {
    this.node = el("div", { class: "log", role: "log", "aria-label": "Conversation", "aria-live": "off", tabindex: "0" }, this.#empty);
  }

  clear() {
    this.node.replaceChildren(this.#empty);
  }

  // Add a question and return the answer to it, which is empty so far.
  add(turn, author) {
    this.#empty.remove();
    const question = el("article", { class: "turn question", "aria-label": "Your message" },
      el("p", { class: "author", text: "You" }), el("p", { class: "said", text: turn.question }));
    const answer = new Answer(author || "Model");
    this.node.append(question, answer.node);
    this.node.scrollTop = this.node.scrollHeight;
    return answer;
  }

  // Return a function that calls `draw` before the next picture, however often it is called. Drawing takes at most a
  // fifth of the time: after a slow one, such as of a very long list, the next one waits.
  painter(draw) {
    let waiting = false, again = false;
    const paint = () => {
      again = waiting;
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        const start = performance.now();
        this.keepAtEnd(draw);
        setTimeout(() => {
          waiting = false;
          if (again) paint();
        }, 4 * (performance.now() - start));
      });
    };
    return paint;
  }

  keepAtEnd(draw) {
    const atEnd = this.node.scrollHeight - this.node.scrollTop - this.node.clientHeight < NEAR_PX;
    draw();
    if (atEnd) this.node.scrollTop = this.node.scrollHeight;
  }
}
