// The tabs. The address shows which one is open, so that a reload and the back button keep it.

export class Tabs {
  #tabs = [...document.querySelectorAll("[role=tab]")];
  #open = null;

  // `onOpen(name, rest)` gets the name of the view, and what follows it in the address: `#video/4f2a…`.
  constructor(onOpen) {
    this.onOpen = onOpen;
    for (const tab of this.#tabs) {
      tab.addEventListener("click", () => { location.hash = nameOf(tab); });
      tab.addEventListener("keydown", (event) => this.#onKey(event, tab));
    }
    addEventListener("hashchange", () => this.#show());
    this.#show();
  }

  #show() {
    const [name, rest] = location.hash.slice(1).split("/");
    const chosen = this.#tabs.find((tab) => nameOf(tab) === name) ?? this.#tabs[0];
    for (const tab of this.#tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    // What had the focus may be hidden now: a link or a button has opened another view.
    if (document.activeElement?.closest("[role=tabpanel][hidden]")) chosen.focus();
    document.body.dataset.view = nameOf(chosen);
    this.onOpen(nameOf(chosen), rest ?? "", this.#open);
    this.#open = nameOf(chosen);
  }

  #onKey(event, tab) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const last = this.#tabs.length - 1, step = steps[event.key], here = this.#tabs.indexOf(tab);
    const next = Number.isFinite(step) ? (here + step + last + 1) % (last + 1) : step < 0 ? 0 : last;
    this.#tabs[next].focus();
    location.hash = nameOf(this.#tabs[next]);
  }
}

// The views have other ids than their names in the address, or the browser would move the focus to them.
const nameOf = (tab) => tab.id.replace("tab-", "");
