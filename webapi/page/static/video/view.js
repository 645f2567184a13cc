// The view of videos: choose a clip, start it, watch its batches, see the result beside the original.

import { button, el, hide, say } from "../dom.js";
import { cancel } from "../api.js";
import { ModelPoll } from "../models.js";
import { refusal } from "../words.js";
import { ClipChoice } from "./clip.js";
import { VideoOptions } from "./options.js";
import { Run } from "./run.js";
import { upload } from "./upload.js";

const NAME = "stoker.video";

export class VideoView {
  #clip = new ClipChoice((file) => this.#choose(file));
  #options = new VideoOptions();
  #run = new Run(() => this.#idle());
  #start = el("button", { text: "Start" });
  #cancel = button("Cancel", () => this.#stop(), { hidden: true });
  #note = el("p", { class: "empty", text: "Asking the API." });
  #error = el("p", { class: "error", role: "alert", hidden: true });
  #title = el("h2", { text: "Result" });
  #panel = el("div", { class: "panel", hidden: true }, el("div", { class: "title" }, this.#title), this.#run.node);
  #models = new ModelPoll(this.#options, (problem) => this.#fail(problem), () => this.#showNote());
  #sending = null;
  #job = null;

  constructor(root) {
    const form = el("form", { class: "clip-form", novalidate: true }, this.#clip.node, this.#options.node, this.#note, this.#error,
      el("div", { class: "actions" }, this.#start, this.#cancel));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.#submit(); });
    root.append(el("div", { class: "panel" }, el("div", { class: "title" }, el("h2", { text: "Video" })), form), this.#panel);
  }

  // `id` shows this job. Else the job of this tab goes on, if there is one.
  show(id) {
    this.#models.start();
    const wanted = id || sessionStorage.getItem(NAME);
    if (wanted && wanted !== this.#job && !this.#sending) this.#watch(wanted);
  }

  hide() {
    this.#models.stop();
  }

  #showNote() {
    this.#note.hidden = !this.#options.isEmpty;
    say(this.#note, "No worker serves a video model. Start one: `stoker worker video`.");
  }

  #choose(file) {
    this.#error.hidden = true;
    this.#panel.hidden = false;
    this.#run.setOriginal(file);
    if (!this.#job) {
      this.#run.clear();
      this.#run.node.querySelector("progress").hidden = true;
    }
  }

  async #submit() {
    if (this.#start.hasAttribute("aria-disabled")) return;
    if (!this.#clip.file) {
      this.#clip.focus();
      return this.#say("Choose a clip first.");
    }
    if (!this.#options.check()) return;
    this.#error.hidden = true;
    this.#busy();
    this.#sending = upload(this.#options.values, this.#clip.file, (share) => this.#run.uploading(share));
    this.#run.uploading(0);
    try {
      const job = await this.#sending.answer;
      this.#sending = null;
      this.#watch(job.id);
    } catch (problem) {
      this.#sending = null;
      this.#idle();
      this.#run.clear();
      this.#run.fail(problem);
      if (problem.field) this.#options.fail(problem.field, problem.message);
    }
  }

  #watch(id) {
    this.#job = id;
    sessionStorage.setItem(NAME, id);
    say(this.#title, `Video ${id.slice(0, 6)}`);
    this.#panel.hidden = false;
    this.#busy();
    this.#run.watch(id);
  }

  #stop() {
    if (this.#sending) this.#sending.abort();
    else cancel(this.#job).catch((problem) => this.#fail(problem));
  }

  #busy() {
    this.#start.setAttribute("aria-disabled", "true");  // where `disabled` would drop the focus
    this.#cancel.hidden = false;
  }

  #idle() {
    this.#start.removeAttribute("aria-disabled");
    hide(this.#cancel, true, this.#start);
  }

  #fail(problem) {
    this.#say(refusal(problem));
  }

  #say(text) {
    this.#error.hidden = false;
    say(this.#error, text);
  }
}
