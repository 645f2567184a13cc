// The table of jobs, in groups of rows. A group that is off the screen is not laid out, and each step draws one group,
// so that no step takes long.

import { el } from "../dom.js";
import { Row } from "./row.js";

const GROUP = 50;

export class Table {
  #rows = new Map();
  #groups = [];
  #drawing = 0;

  constructor(acts) {
    this.acts = acts;
    const heads = ["job", "what", "state", "worker", "age", ""].map((text) => el("th", { role: "columnheader", scope: "col", text }));
    this.node = el("table", { class: "jobs", role: "table" }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads)));
  }

  async show(jobs) {
    const drawing = ++this.#drawing;
    this.#removeAllBut(new Set(jobs.map((job) => job.id)));
    for (let start = 0; start < jobs.length; start += GROUP) {
      if (start) await new Promise(requestAnimationFrame);
      if (drawing !== this.#drawing) return;  // a newer list has come meanwhile
      this.#drawGroup(this.#group(start / GROUP), jobs.slice(start, start + GROUP));
    }
    for (const group of this.#groups.splice(Math.ceil(jobs.length / GROUP))) group.remove();
  }

  #removeAllBut(wanted) {
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      if (row.node.contains(document.activeElement)) this.#passFocus(row.node);
      row.node.remove();
      this.#rows.delete(id);
    }
  }

  // Rows behind these ones belong to the next groups, which take them when they are drawn.
  #drawGroup(group, jobs) {
    let next = group.firstElementChild;
    for (const job of jobs) {
      const row = this.#rows.get(job.id) ?? this.#add(job.id);
      row.show(job);
      if (row.node === next) next = next.nextElementSibling;
      else move(row.node, group, next);
    }
  }

  // A row that goes gives the focus to the one behind it, or to the list.
  #passFocus(node) {
    const target = node.nextElementSibling?.querySelector("button") ?? this.node.closest("[tabindex]");
    target.focus({ preventScroll: true });
  }

  #group(number) {
    if (!this.#groups[number]) {
      this.#groups[number] = el("tbody", { role: "rowgroup" });
      this.node.append(this.#groups[number]);
    }
    return this.#groups[number];
  }

  #add(id) {
    const row = new Row(this.acts);
    this.#rows.set(id, row);
    return row;
  }
}

// A node that is moved loses the focus.
function move(node, group, next) {
  const held = node.contains(document.activeElement) ? document.activeElement : null;
  group.insertBefore(node, next);
  held?.focus({ preventScroll: true });
}
