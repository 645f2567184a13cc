// A video job on the screen: its progress, its batches, and at the end its result.

import { announce, el, say } from "../dom.js";
import { call, keepOpen } from "../api.js";
import { Seam } from "../chat/seam.js";
import { follow } from "../follow.js";
import { cause, refusal } from "../words.js";
import { Chart } from "./chart.js";
import { Player } from "./player.js";
import { Records } from "./records.js";
import { standing, VideoTimeline } from "./timeline.js";

export class Run {
  #records = new Records();
  #player = new Player(this.#records.canvas, (time) => this.#records.draw(this.#player.original, time));
  #bar = el("progress", { "aria-label": "Progress" });
  #line = el("p", { class: "facts" });
  #seams = el("div");
  #error = el("p", { class: "error", role: "alert", hidden: true });
  #chart = new Chart();
  #download = el("a", { class: "quiet", text: "Download", hidden: true });
  #ends = [];

  // `onEnd` is called when the job has ended.
  constructor(onEnd) {
    this.onEnd = onEnd;
    this.node = el("div", { class: "run" }, this.#player.node, this.#records.facts, this.#bar, this.#line, this.#seams, this.#error,
      el("p", {}, this.#download), this.#chart.node);
  }

  setOriginal(file) {
    this.#player.setOriginal(file);
  }

  // Show how much of the upload is done, from 0 to 1.
  uploading(share) {
    this.clear();
    this.#bar.value = share;
    say(this.#line, share < 1 ? `uploading, ${Math.round(share * 100)} %` : "the API checks the clip");
  }

  clear() {
    for (const end of this.#ends.splice(0)) end();
    this.#records.clear();
    this.#player.showOnlyOriginal(false);
    this.#player.setResult(null, "The result comes here.");
    this.#chart.show(new Map(), 0);
    this.#seams.replaceChildren();
    this.#download.hidden = this.#error.hidden = true;
    this.#bar.removeAttribute("value");
    this.#bar.hidden = false;
    say(this.#line, "");
  }

  fail(problem) {
    this.#bar.hidden = true;
    say(this.#line, "");
    this.#error.hidden = false;
    say(this.#error, refusal(problem));
  }

  watch(id) {
    this.clear();
    const timeline = new VideoTimeline();
    let due = false;
    this.#ends.push(follow(id, (event) => {
      timeline.take(event);
      if (event.type === "requeued") announce("The worker was lost. Another worker continues the video.");
      if (due) return;
      due = true;
      requestAnimationFrame(() => { due = false; this.#show(timeline, id); });
    }));
  }

  #show(timeline, id) {
    const { state, done, total, batches } = timeline;
    if (state === "running" && total) Object.assign(this.#bar, { max: total, value: done });
    say(this.#line, standing(timeline));
    this.#chart.show(batches, timeline.ended ? 0 : total);
    this.#seams.replaceChildren(...timeline.seams.map((seam) => {
      const view = new Seam();
      view.show(seam);
      return view.node;
    }));
    if (!timeline.ended) this.#player.say(batches.size ? `batch ${batches.size}` : "The result comes here.");
    else this.#finish(timeline, id);
  }

  async #finish(timeline, id) {
    this.onEnd(timeline);
    this.#bar.hidden = true;
    const words = ENDINGS[timeline.state]?.(timeline);
    this.#error.hidden = !words;
    say(this.#error, words ?? "");
    if (!words) announce("The video is done.");
    if (timeline.state !== "succeeded") return this.#player.setResult(null, "There is no result.");
    try {
      this.#ends.push(await keepOpen(id));
      await this.#showResult(id, timeline.result);
    } catch (problem) {
      this.fail(problem);
    }
  }

  async #showResult(id, result) {
    const url = `v1/jobs/${id}/result`, isVideo = result.content_type.startsWith("video/");
    this.#download.href = url;
    this.#download.download = `${id}.${isVideo ? "mp4" : "ndjson"}`;
    this.#download.hidden = false;
    this.#player.showOnlyOriginal(!isVideo);
    if (isVideo) return this.#player.setResult(url);
    this.#records.load(await call(url, { as: "text" }), result);
    this.#records.draw(this.#player.original, this.#player.original.currentTime);
  }
}

const ENDINGS = {
  failed: (timeline) => `The video failed: ${cause(timeline.error)}`,
  canceled: () => "You canceled this video.",
  gone: () => "The server no longer has this video. Start the clip again.",
};
