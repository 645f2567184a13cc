// Two clips side by side, played in step: the result leads, and the original follows it.

import { button, el, say } from "../dom.js";
import { clock } from "../format.js";

const STEP_S = 0.06;

export class Player {
  #original = el("video", { muted: true, playsinline: true, preload: "auto", "aria-label": "Original" });
  #result = el("video", { muted: true, playsinline: true, preload: "auto", "aria-label": "Result" });
  #note = el("p", { class: "soft" });
  #resultNote = el("p", { class: "soft" });
  #play = button("Play", () => this.#toggle());
  #seek = el("input", { type: "range", min: "0", max: "1", step: "0.001", value: "0", "aria-label": "Position" });
  #time = el("code");
  #resultFigure = el("figure", {}, el("div", { class: "stage" }, this.#result, this.#resultNote), el("figcaption", { text: "result" }));
  #originalUrl = null;

  // `onFrame(time)` is called with the time of each frame of the original that is shown.
  constructor(overlay, onFrame) {
    this.onFrame = onFrame;
    this.node = el("div", {},
      el("div", { class: "two" },
        el("figure", {}, el("div", { class: "stage" }, this.#original, overlay, this.#note), el("figcaption", { text: "original" })),
        this.#resultFigure),
      el("div", { class: "transport" }, this.#play, this.#seek, this.#time));
    this.#original.muted = this.#result.muted = true;
    for (const video of [this.#original, this.#result]) {
      video.addEventListener("timeupdate", () => this.#follow());
      video.addEventListener("loadedmetadata", () => this.#follow());
      video.addEventListener("ended", () => this.#showState());
    }
    this.#original.addEventListener("error", () => {
      if (this.#original.hasAttribute("src")) this.#say(this.#note, "This browser cannot play the original.");
    });
    this.#seek.addEventListener("input", () => this.#jump(Number(this.#seek.value) * this.#lead.duration));
    this.#watchFrames();
    this.setOriginal(null);
    this.setResult(null);
  }

  get original() {
    return this.#original;
  }

  setOriginal(file) {
    if (this.#originalUrl) URL.revokeObjectURL(this.#originalUrl);
    this.#originalUrl = file ? URL.createObjectURL(file) : null;
    source(this.#original, this.#originalUrl);
    this.#say(this.#note, file ? "" : "The server does not give the clip back. Choose it again to see it here.");
    this.#showState();
  }

  // `url` is null while there is no result: then `note` says why.
  setResult(url, note = "") {
    source(this.#result, url);
    this.#say(this.#resultNote, note);
    this.#showState();
  }

  say(note) {
    this.#say(this.#resultNote, note);
  }

  // Records have no pictures of their own: they are drawn over the original.
  showOnlyOriginal(only) {
    this.#resultFigure.hidden = only;
  }

  get #lead() {
    return this.#result.hasAttribute("src") ? this.#result : this.#original;
  }

  #say(node, text) {
    node.hidden = !text;
    say(node, text);
  }

  #toggle() {
    const lead = this.#lead;
    if (lead.paused) {
      if (lead.ended) this.#jump(0);
      this.#each((video) => video.play().catch(() => {}));
    } else {
      this.#each((video) => video.pause());
    }
    this.#showState();
  }

  #each(act) {
    for (const video of [this.#original, this.#result]) if (video.hasAttribute("src")) act(video);
  }

  #jump(time) {
    if (Number.isFinite(time)) this.#each((video) => { video.currentTime = time; });
    this.#follow();
  }

  #follow() {
    const lead = this.#lead;
    const other = lead === this.#result ? this.#original : this.#result;
    const apart = Math.abs(other.currentTime - lead.currentTime);
    if (other.readyState > 0 && !other.seeking && apart > STEP_S && lead.currentTime < other.duration) other.currentTime = lead.currentTime;
    if (lead.duration) this.#seek.value = String(lead.currentTime / lead.duration);
    say(this.#time, lead.duration ? `${clock(lead.currentTime)} / ${clock(lead.duration)}` : "");
  }

  #showState() {
    say(this.#play, this.#lead.paused || this.#lead.ended ? "Play" : "Pause");
    this.#play.disabled = this.#seek.disabled = !this.#lead.hasAttribute("src");
  }

  #watchFrames() {
    const each = (_, frame) => {
      this.onFrame(frame.mediaTime);
      this.#original.requestVideoFrameCallback?.(each);
    };
    this.#original.requestVideoFrameCallback?.(each);
  }
}

function source(video, url) {
  if (url) video.src = url;
  else if (video.hasAttribute("src")) {
    video.removeAttribute("src");
    video.load();
  }
}
