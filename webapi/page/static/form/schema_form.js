// A form drawn from a JSON schema.

import { el } from "../dom.js";
import { Field } from "./field.js";

export class SchemaForm {
  #fields;

  // `prefix` makes the ids unique, `stored` has values from before.
  constructor(schema, prefix, stored = {}) {
    const required = new Set(schema?.required ?? []);
    this.#fields = Object.entries(schema?.properties ?? {}).map(
      ([name, property]) => new Field(name, resolved(property, schema), `${prefix}-${name}`, required.has(name), stored[name]));
    this.node = el("div", { class: "fields" }, this.#fields.map((field) => field.node));
  }

  // The values that differ from the defaults: texts, numbers, booleans and files.
  get values() {
    const given = this.#fields.map((field) => [field.name, field.value]);
    return Object.fromEntries(given.filter(([, value]) => value !== undefined));
  }

  // Whether the browser accepts all fields. It shows the first one that it does not accept.
  check() {
    return this.#fields.every((field) => field.check());
  }

  // Show why the server refuses a field. Return whether the form has this field.
  fail(name, message) {
    const field = this.#fields.find((one) => one.name === name);
    field?.fail(message);
    return Boolean(field);
  }
}

// Follow a reference within the schema, and leave out the alternative null.
function resolved(property, schema) {
  if (property.$ref) {
    const target = property.$ref.replace(/^#\//, "").split("/").reduce((part, key) => part?.[key], schema);
    return resolved({ ...target, ...property, $ref: undefined }, schema);
  }
  if (property.allOf?.length === 1) return resolved({ ...property.allOf[0], ...property, allOf: undefined }, schema);
  const ways = (property.anyOf ?? property.oneOf)?.map((way) => resolved(way, schema)).filter((way) => way.type !== "null");
  if (ways?.length === 1) return { ...ways[0], ...property, anyOf: undefined, oneOf: undefined };
  return ways ? { ...property, anyOf: ways, oneOf: undefined } : property;
}
