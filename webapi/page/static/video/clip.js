// The choice of a clip: a drop zone, which is also a file input.

import { el, say } from "../dom.js";
import { bytes } from "../format.js";

export class ClipChoice {
  #input = el("input", { id: "clip", type: "file", accept: "video/*,.mkv,.avi,.mov,.ts", "aria-label": "Clip" });
  #text = el("span", { class: "soft", text: "Drop a clip here, or choose one." });
  file = null;

  constructor(onChoose) {
    this.onChoose = onChoose;
    this.node = el("label", { class: "drop", for: "clip" }, this.#text, this.#input);
    this.#input.addEventListener("change", () => this.#take(this.#input.files[0]));
    for (const name of ["dragenter", "dragover"]) this.node.addEventListener(name, (event) => this.#over(event, true));
    for (const name of ["dragleave", "drop"]) this.node.addEventListener(name, (event) => this.#over(event, false));
    this.node.addEventListener("drop", (event) => this.#take(event.dataTransfer.files[0]));
  }

  focus() {
    this.#input.focus();
  }

  #over(event, isOver) {
    event.preventDefault();
    this.node.classList.toggle("over", isOver);
  }

  #take(file) {
    if (!file) return;
    this.file = file;
    say(this.#text, `${file.name}, ${bytes(file.size)}`);
    this.onChoose(file);
  }
}
