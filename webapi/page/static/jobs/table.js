// The table of jobs. It keeps the rows that stay, and adds old ones in parts, so that no step takes long.

import { el } from "../dom.js";
import { Row } from "./row.js";

const PART = 50;

export class Table {
  #rows = new Map();
  #body = el("tbody", { role: "rowgroup" });
  #drawing = 0;

  constructor(acts) {
    this.acts = acts;
    const heads = ["job", "what", "state", "worker", "age", ""];
    this.node = el("table", { class: "jobs", role: "table" }, el("thead", {}, el("tr", { role: "row" }, heads.map((text) => el("th", { role: "columnheader", scope: "col", text })))), this.#body);
  }

  async show(jobs) {
    const drawing = ++this.#drawing;
    const wanted = new Set(jobs.map((job) => job.id));
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      row.node.remove();
      this.#rows.delete(id);
    }
    let next = this.#body.firstElementChild;
    for (const [n, job] of jobs.entries()) {
      if (n && n % PART === 0) {
        await new Promise(requestAnimationFrame);
        if (drawing !== this.#drawing) return;  // a newer list has come meanwhile
      }
      const row = this.#rows.get(job.id) ?? this.#add(job.id);
      row.show(job);
      if (row.node === next) next = next.nextElementSibling;
      else this.#body.insertBefore(row.node, next);
    }
  }

  #add(id) {
    const row = new Row(this.acts);
    this.#rows.set(id, row);
    return row;
  }
}
