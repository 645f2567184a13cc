// The model of a video, and the form of its options, which is drawn from the model's JSON schema.

import { el } from "../dom.js";
import { SchemaForm } from "../form/schema_form.js";
import { models } from "../models.js";

// Fields of every video job, whatever its model.
const CLIP_FIELDS = {
  properties: {
    pad: { enum: ["last", "zeros"], default: "last", description: "What fills the last batch: copies of the last frame, or black frames." },
    deinterlace: { type: "boolean", default: true, description: "Make the frames of interlaced clips progressive." },
    odd_size: { enum: ["pad", "scale"], default: "pad", description: "How an odd width or height becomes even." },
  },
};

export class VideoOptions {
  #model = el("select", { id: "video-model" });
  #fields = el("div");
  #clip = new SchemaForm(CLIP_FIELDS, "clip");
  #form = new SchemaForm({}, "video");
  #models = [];

  constructor() {
    this.node = el("div", { class: "video-options" },
      el("div", { class: "field" }, el("label", { for: "video-model", text: "Model" }), this.#model),
      this.#fields, el("details", {}, el("summary", { class: "soft", text: "More about the clip" }), this.#clip.node));
    this.#model.addEventListener("change", () => this.#draw());
  }

  async load() {
    const found = await models("video");
    if (JSON.stringify(found) === JSON.stringify(this.#models)) return;  // what the user has entered stays
    const before = this.#model.value;
    this.#models = found;
    this.#model.replaceChildren(...found.map((model) => el("option", { value: model.id, text: model.id })));
    if (found.some((model) => model.id === before)) this.#model.value = before;
    this.#draw();
  }

  get isEmpty() {
    return this.#models.length === 0;
  }

  check() {
    return this.#form.check() && this.#clip.check();
  }

  get values() {
    return { model: this.#model.value, ...this.#clip.values, ...this.#form.values };
  }

  fail(field, message) {
    return this.#form.fail(field, message) || this.#clip.fail(field, message);
  }

  #draw() {
    const model = this.#models.find((one) => one.id === this.#model.value);
    this.#form = new SchemaForm(model?.parameters ?? {}, "video");
    this.#fields.replaceChildren(this.#form.node);
  }
}
