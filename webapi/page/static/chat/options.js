// Model, system prompt and sampling parameters, behind "Options".

import { el, say } from "../dom.js";
import { SchemaForm } from "../form/schema_form.js";
import { models } from "../models.js";

const NAME = "stoker.options";

// The parameters of a chat model that does not publish its own.
function schemaOf(model) {
  return model?.parameters ?? {
    properties: {
      temperature: { type: "number", minimum: 0, maximum: 2, default: 1, description: "0 always takes the likeliest token." },
      max_tokens: { type: "integer", minimum: 1, maximum: model ? Math.max(model.max_model_len, 256) : undefined, default: 256, description: "The longest answer." },
      top_p: { type: "number", minimum: 0, maximum: 1, default: 1, description: "Only the likeliest tokens with this share." },
      seed: { type: "integer", description: "The same seed gives the same answer." },
    },
  };
}

export class Options {
  #stored = JSON.parse(sessionStorage.getItem(NAME) ?? "{}");
  #summary = el("summary");
  #model = el("select", { id: "chat-model" });
  #system = el("textarea", { id: "chat-system", rows: "2" });
  #fields = el("div", { class: "fields" });
  #form = null;
  #models = [];

  constructor() {
    this.#system.value = this.#stored.system ?? "";
    this.node = el("details", { class: "options" }, this.#summary, el("div", { class: "fields" },
      el("div", { class: "field" }, el("label", { for: "chat-model", text: "Model" }), this.#model),
      el("div", { class: "field wide" }, el("label", { for: "chat-system", text: "System prompt" }), this.#system)),
    this.#fields);
    this.#model.addEventListener("change", () => this.#draw());
    this.node.addEventListener("input", () => this.#save());
    this.#draw();
  }

  async load() {
    const found = await models("chat");
    if (JSON.stringify(found) === JSON.stringify(this.#models)) return;  // what the user has entered stays
    this.#models = found;
    this.#model.replaceChildren(...this.#models.map((model) => el("option", { value: model.id, text: model.id })));
    const wanted = this.#models.find((model) => model.id === this.#stored.model);
    if (wanted) this.#model.value = wanted.id;
    this.#draw();
  }

  get isEmpty() {
    return this.#models.length === 0;
  }

  get model() {
    return this.#model.value;
  }

  get system() {
    return this.#system.value.trim();
  }

  // The fields of the request that the user has set.
  get values() {
    return { ...this.#form.values, ...(this.model ? { model: this.model } : {}) };
  }

  check() {
    return this.#form.check();
  }

  // Show the problem at its field. Return whether there is such a field.
  fail(field, message) {
    const known = this.#form.fail(field, message);
    if (known) this.node.open = true;
    return known;
  }

  #draw() {
    const model = this.#models.find((one) => one.id === this.model);
    this.#form = new SchemaForm(schemaOf(model), "chat", this.#stored.values);
    this.#fields.replaceChildren(this.#form.node);
    this.#show();
  }

  #save() {
    this.#stored = { model: this.model, system: this.#system.value, values: this.#form.values };
    sessionStorage.setItem(NAME, JSON.stringify(this.#stored));
    this.#show();
  }

  #show() {
    const { temperature, max_tokens: tokens } = this.#form.values;
    const parts = [this.model, temperature === 0 ? "greedy" : `temperature ${temperature ?? 1}`, `${tokens ?? 256} tokens`];
    say(this.#summary, `Options: ${parts.filter(Boolean).join(", ")}`);
  }
}
