// One field of a form: its label, control, help and error.

import { el, say } from "../dom.js";
import { control } from "./control.js";

export class Field {
  #control;
  #error;

  constructor(name, schema, id, required, stored) {
    this.name = name;
    this.#control = control(schema, id, required, stored);
    this.#error = el("p", { class: "error", id: `${id}-error`, hidden: true });
    const help = schema.description ? el("p", { class: "help", id: `${id}-help`, text: schema.description.replaceAll("`", "") }) : null;
    this.node = el("div", { class: "field" }, el("label", { for: id, text: title(name, schema) }), this.#control.node, help, this.#error);
    for (const input of this.node.querySelectorAll("input, select, textarea")) {
      input.setAttribute("aria-describedby", [help?.id, this.#error.id].filter(Boolean).join(" "));
      input.addEventListener("input", () => this.fail(""));
    }
  }

  get value() {
    return this.#control.value();
  }

  // Whether the browser accepts the value. If it does not, it says why, and for that the field must be visible.
  check() {
    const wrong = [...this.node.querySelectorAll("input, select, textarea")].find((input) => !input.checkValidity());
    if (!wrong) return true;
    this.node.closest("details")?.setAttribute("open", "");
    return wrong.reportValidity();
  }

  fail(message) {
    const input = this.node.querySelector("input, select, textarea");
    input.toggleAttribute("aria-invalid", Boolean(message));
    if (message) input.setAttribute("aria-invalid", "true");
    this.#error.hidden = !message;
    say(this.#error, message);
    if (message) {
      this.node.closest("details")?.setAttribute("open", "");
      input.focus();
    }
  }
}

function title(name, schema) {
  const text = schema.title ?? name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
