// Make and find elements. Texts become text nodes, never HTML.

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  set(node, props);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export function svg(tag, props = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// `onclick: f` adds a listener, `text` sets the content, true and false switch an attribute.
function set(node, props) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
}

// Replace the text only if it is new, so that nothing is laid out and nothing is announced in vain.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Replace the children. If one of them had the focus, the new one in its place gets it. If there is none, the block does.
export function replace(node, children) {
  const place = [...node.children].findIndex((child) => child.contains(document.activeElement));
  node.replaceChildren(...children);
  if (place < 0) return;
  const next = children[Math.min(place, children.length - 1)];
  const target = next?.matches("a, button") ? next : next?.querySelector("a, button");
  if (target) return target.focus({ preventScroll: true });
  const block = node.closest("article, tr");
  block.tabIndex = -1;
  block.focus({ preventScroll: true });
}

// Hide the element, or show it. If it has the focus when it goes, `instead` gets it.
export function hide(node, hidden, instead) {
  const held = node === document.activeElement;
  node.hidden = hidden;
  if (hidden && held) instead.focus({ preventScroll: true });
}

// Tell a screen reader. Only the starts and the ends of things go here, not their every step.
export function announce(text) {
  say(document.getElementById("announcer"), text);
}

export function button(text, onclick, props = {}) {
  return el("button", { type: "button", class: "quiet", text, onclick, ...props });
}
