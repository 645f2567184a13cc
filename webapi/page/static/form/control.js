// The control for a property of a JSON schema. `value()` is undefined if the field has its default value.

import { el } from "../dom.js";

export function control(schema, id, required, stored) {
  if (schema.anyOf) return eitherOf(schema, id, stored);
  if (schema.enum ?? schema.const !== undefined) return choice(schema, id, stored);
  if (schema.type === "boolean") return checkbox(schema, id, stored);
  if (schema.type === "integer" || schema.type === "number") return number(schema, id, required, stored);
  if (schema.format === "binary") return file(schema, id, required);
  return text(schema, id, required, stored);
}

function choice(schema, id, stored) {
  const values = schema.enum ?? [schema.const];
  const first = stored ?? schema.default ?? values[0];
  const node = el("select", { id }, values.map((value) =>
    el("option", { value: String(value), text: String(value), selected: value === first })));
  return { node, value: () => unlessDefault(values[node.selectedIndex], schema) };
}

function checkbox(schema, id, stored) {
  const node = el("input", { id, type: "checkbox" });
  node.checked = stored ?? schema.default ?? false;
  return { node, value: () => unlessDefault(node.checked, { default: false, ...schema }) };
}

function number(schema, id, required, stored) {
  const node = el("input", {
    id, type: "number", inputmode: "decimal", required, placeholder: schema.default ?? "",
    min: schema.minimum ?? schema.exclusiveMinimum, max: schema.maximum ?? schema.exclusiveMaximum,
    step: schema.multipleOf ?? (schema.type === "integer" ? 1 : "any"), value: stored ?? schema.default,
  });
  return { node, value: () => (node.value === "" ? undefined : unlessDefault(Number(node.value), schema)) };
}

function text(schema, id, required, stored) {
  const type = schema.format === "color" ? "color" : "text";
  const node = el("input", {
    id, type, required, value: stored ?? schema.default, pattern: type === "text" ? schema.pattern : null,
    minlength: schema.minLength, maxlength: schema.maxLength,
  });
  return { node, value: () => (node.value === "" ? undefined : unlessDefault(node.value, schema)) };
}

function file(schema, id, required) {
  const node = el("input", { id, type: "file", required, accept: schema.contentMediaType });
  return { node, value: () => node.files[0] };
}

// Such as a colour or an image: the first way has the label, and a file that is chosen counts before it.
function eitherOf(schema, id, stored) {
  const shared = { default: schema.default };
  const ways = schema.anyOf.map((way, n) => control({ ...shared, ...way }, n ? `${id}-${n}` : id, false, n ? undefined : stored));
  for (const [n, way] of ways.entries()) if (n) way.node.setAttribute("aria-label", `or ${schema.anyOf[n].contentMediaType ? "an image" : "another value"}`);
  return {
    node: el("div", { class: "either" }, ways.map((way) => way.node)),
    value: () => ways.map((way) => way.value()).findLast((value) => value !== undefined),
  };
}

const unlessDefault = (value, schema) => (value === schema.default ? undefined : value);
