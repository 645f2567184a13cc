// Markdown as elements. `marked` finds the parts. What the model wrote as HTML stays text.

import { Lexer } from "./vendor/marked.esm.js";
import { el } from "./dom.js";

const LEXER = { gfm: true, breaks: true };
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const SAFE_LINK = /^(https?:|mailto:)/i;

export const blocksOf = (source) => new Lexer(LEXER).lex(source);

// Return the element of one of the blocks, or null for an empty one.
export function block(token) {
  const make = BLOCKS[token.type];
  return make ? make(token) : paragraph(token);
}

const BLOCKS = {
  space: () => null,
  def: () => null,
  hr: () => el("hr"),
  heading: (token) => el(`h${Math.min(6, token.depth + 2)}`, {}, inline(token.tokens)),
  code: (token) => el("pre", { role: "group", tabindex: "0", "aria-label": token.lang ? `Code, ${token.lang}` : "Code" }, el("code", { text: token.text })),
  blockquote: (token) => el("blockquote", {}, token.tokens.map(block)),
  list: (token) => el(token.ordered ? "ol" : "ul", token.ordered && token.start > 1 ? { start: token.start } : {}, token.items.map(item)),
  table: (token) => el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" }, el("table", {},
    el("thead", {}, row(token.header, "th")), el("tbody", {}, token.rows.map((cells) => row(cells, "td"))))),
  html: (token) => el("p", { text: token.raw.trimEnd() }),
};

const paragraph = (token) => el("p", {}, inline(token.tokens ?? [{ type: "text", text: token.raw }]));
const row = (cells, tag) => el("tr", {}, cells.map((cell) => el(tag, {}, inline(cell.tokens))));

function item(token) {
  const box = token.task ? [token.checked ? "☑ " : "☐ "] : [];
  return el("li", {}, box, token.tokens.filter((part) => part.type !== "checkbox").flatMap((part) => (part.type === "text" ? inline(part.tokens ?? [part]) : [block(part)])));
}

const inline = (tokens) => (tokens ?? []).map(span);

function span(token) {
  switch (token.type) {
    case "strong": return el("strong", {}, inline(token.tokens));
    case "em": return el("em", {}, inline(token.tokens));
    case "del": return el("del", {}, inline(token.tokens));
    case "codespan": return el("code", { text: token.text });
    case "br": return el("br");
    case "link": return link(token.href, inline(token.tokens));
    case "image": return link(token.href, [token.text || token.href]);  // a picture would come from another host
    case "escape": return token.text;
    case "text": return token.tokens ? el("span", {}, inline(token.tokens)) : decoded(token.text);
    default: return token.raw;
  }
}

function link(href, children) {
  if (!SAFE_LINK.test(href)) return el("span", {}, children);
  return el("a", { href, target: "_blank", rel: "noopener noreferrer" }, children);
}

function decoded(text) {
  return text.replace(/&(#x?[0-9a-f]{1,6}|[a-z]+);/gi, (whole, name) => {
    if (name[0] !== "#") return ENTITIES[name.toLowerCase()] ?? whole;
    const number = /^#x/i.test(name) ? parseInt(name.slice(2), 16) : parseInt(name.slice(1), 10);
    return number > 0 && number <= 0x10ffff ? String.fromCodePoint(number) : whole;
  });
}
