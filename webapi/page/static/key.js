// The API key of this tab, and the dialog that asks for it.

import { el } from "./dom.js";

const NAME = "stoker.key";
let asking = null;

export const key = () => sessionStorage.getItem(NAME);

// Ask for a key and keep it in this tab. Several callers share one dialog.
export function askForKey(refused) {
  asking ??= show(refused).finally(() => { asking = null; });
  return asking;
}

function show(refused) {
  const input = el("input", { id: "key", type: "password", autocomplete: "off", required: true, "aria-describedby": "key-help" });
  const help = refused ? "The API does not accept this key. Check it, or ask for a new one." : "This API needs a key.";
  const form = el("form", { method: "dialog" },
    el("h2", { text: "API key" }),
    el("p", { id: "key-help", class: refused ? "error" : "", text: help }),
    el("label", { for: "key", text: "Key" }), input,
    el("p", { class: "soft", text: "The key stays in this tab until you close it. `stoker keys create NAME` makes one." }),
    el("button", { text: "Use key" }));
  const dialog = el("dialog", { class: "sheet", "aria-label": "API key" }, form);
  return new Promise((resolve) => {
    dialog.addEventListener("cancel", (event) => event.preventDefault());  // without a key there is nothing to see
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(NAME, input.value.trim());
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
