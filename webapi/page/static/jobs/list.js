// The newest jobs, page by page. A refresh asks again for the first page, and for those that have jobs to come.

import { call } from "../api.js";
import { ENDS } from "../follow.js";

const PAGE = 100;
// The most older pages that a refresh asks for.
const AT_ONCE = 2;

export class JobList {
  // Each page is {after, ids}: `after` is the job before its first one, which makes its content stable.
  #pages = [];
  #query = "";
  #more = true;
  #turn = 0;
  jobs = new Map();

  // Choose by kind and state, and forget what was chosen before.
  choose({ kind, state }) {
    this.#query = Object.entries({ kind, state }).filter(([, value]) => value).map(([name, value]) => `&${name}=${value}`).join("");
    this.#pages = [];
    this.#more = true;
    this.jobs = new Map();
  }

  get hasMore() {
    return this.#more;
  }

  // All jobs, newest first.
  get all() {
    const ids = new Set(this.#pages.flatMap((page) => page.ids));
    return [...ids].map((id) => this.jobs.get(id)).filter(Boolean);
  }

  async refresh() {
    const query = this.#query;
    const first = await this.#fetch(null);
    if (query !== this.#query) return;
    this.#putFirst(first);
    for (const page of this.#unfinished()) this.#keep((await this.#fetch(page.after)).jobs, page);
  }

  // Some of the older pages that have jobs to come, others each time.
  #unfinished() {
    const live = this.#pages.slice(1).filter((page) => page.ids.some((id) => !ENDS.includes(this.jobs.get(id)?.state)));
    this.#turn += AT_ONCE;
    return live.length <= AT_ONCE ? live : Array.from({ length: AT_ONCE }, (_, n) => live[(this.#turn + n) % live.length]);
  }

  async loadMore() {
    const query = this.#query, after = this.#pages.at(-1)?.ids.at(-1);
    if (!after || !this.#more) return;
    const { jobs, links } = await this.#fetch(after);
    if (query !== this.#query || this.#pages.at(-1)?.ids.at(-1) !== after) return;
    this.#more = Boolean(links.next);
    this.#pages.push({ after, ids: [] });
    this.#keep(jobs, this.#pages.at(-1));
  }

  forget(id) {
    this.jobs.delete(id);
  }

  // New jobs push older ones off the first page, but these stay on the screen.
  #putFirst({ jobs, links }) {
    const known = this.#pages[0]?.ids ?? [];
    const ids = jobs.map((job) => job.id), last = ids.at(-1);
    const joins = known.includes(last) || !links.next;
    if (!joins || !known.length) {  // the first time, or more than a page of new jobs
      this.#pages = [{ after: null, ids }];
      this.#more = Boolean(links.next);
    } else {
      this.#pages[0].ids = links.next ? [...ids, ...known.slice(known.indexOf(last) + 1)] : ids;
    }
    for (const job of jobs) this.jobs.set(job.id, job);
  }

  #keep(jobs, page) {
    page.ids = jobs.map((job) => job.id);
    for (const job of jobs) this.jobs.set(job.id, job);
  }

  #fetch(after) {
    return call(`v1/jobs?limit=${PAGE}${this.#query}${after ? `&after=${after}` : ""}`);
  }
}
