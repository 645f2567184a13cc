// The view of chats: ask, watch the answer come, stop it.

import { announce, button, el, hide, say } from "../dom.js";
import { call, cancel, idempotencyKey } from "../api.js";
import { Workers } from "../floor/workers.js";
import { follow } from "../follow.js";
import { ModelPoll } from "../models.js";
import { refusal } from "../words.js";
import { Conversation } from "./conversation.js";
import { progress } from "./facts.js";
import { Log } from "./log.js";
import { Options } from "./options.js";
import { Timeline } from "./timeline.js";

export class ChatView {
  #conversation = new Conversation();
  #options = new Options();
  #log = new Log();
  #running = null;
  #message = el("textarea", { "aria-label": "Message", placeholder: "Message", rows: "2", required: true });
  #send = el("button", { text: "Send" });
  #stop = el("button", { type: "button", text: "Stop", hidden: true, onclick: () => this.#cancel() });
  #status = el("p", { class: "facts status" });
  #error = el("p", { class: "error", role: "alert", hidden: true });

  #models = new ModelPoll(this.#options, (problem) => this.#fail(problem));
  #workers = new Workers();
  #unwatch = null;

  constructor(root, floor) {
    this.floor = floor;
    const form = el("form", { class: "ask", novalidate: true }, this.#message, this.#send, this.#stop, this.#options.node);
    form.addEventListener("submit", (event) => { event.preventDefault(); this.#ask(); });
    this.#message.addEventListener("keydown", (event) => this.#onKey(event, form));
    const title = el("div", { class: "title" }, el("h2", { text: "Conversation" }), button("New", () => this.#clear()));
    root.append(el("div", { class: "panel chat" }, title, this.#log.node, this.#status, this.#error, form),
    el("div", { class: "panel aside" }, el("div", { class: "title" }, el("h2", { text: "Floor" })), this.#workers.node));
    this.#restore();
  }

  show() {
    this.#unwatch ??= this.floor.watch(() => this.#workers.show(this.floor));
    this.#models.start();
  }

  hide() {
    this.#models.stop();
    this.#unwatch?.();
    this.#unwatch = null;
  }

  #onKey(event, form) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  }

  async #ask() {
    const question = this.#message.value.trim();
    if (!question || this.#running || !this.#options.check()) return;
    this.#error.hidden = true;
    const body = { messages: this.#conversation.messages(this.#options.system, question), ...this.#options.values };
    const limit = this.#options.values.max_tokens ?? null;
    const turn = { question, body, limit, key: idempotencyKey(), job: null, timeline: null };
    this.#conversation.add(turn);
    this.#message.value = "";
    await this.#submit(turn);
  }

  // Also called after a reload: the same idempotency key gives the same job, whether or not it had arrived.
  async #submit(turn) {
    const answer = this.#begin(turn);
    try {
      const headers = { "Idempotency-Key": turn.key };
      const job = await call("v1/jobs/chat", { method: "POST", body: turn.body, headers });
      Object.assign(turn, { job: job.id, model: job.model, body: null });
      this.#conversation.save();
      if (this.#running?.canceled) cancel(job.id).catch((problem) => this.#fail(problem));
      this.#watch(turn, answer);
    } catch (problem) {
      this.#take(turn);
      this.#fail(problem);
    }
  }

  // Give a question back that was not accepted.
  #take(turn) {
    this.#conversation.drop(turn);
    this.#idle();
    this.#restore();
    this.#message.value ||= turn.question;
  }

  #begin(turn) {
    this.#running = { turn, stop: null, canceled: false };
    hide(this.#send, true, this.#message);
    this.#stop.hidden = false;
    this.#stop.disabled = false;
    say(this.#status, "sending");
    return this.#log.add(turn, turn.model ?? this.#options.model);
  }

  #watch(turn, answer) {
    const timeline = new Timeline();
    timeline.limit = turn.limit ?? null;
    const paint = this.#log.painter(() => {
      answer.show(timeline);
      if (this.#running?.turn === turn) say(this.#status, progress(timeline));
    });
    this.#running.stop = follow(turn.job, (event) => {
      timeline.take(event);
      if (event.type === "requeued") announce("The worker was lost. Another worker continues the answer.");
      if (timeline.ended) this.#finish(turn, timeline, answer);
      else paint();
    });
  }

  #finish(turn, timeline, answer) {
    turn.timeline = { ...timeline };
    this.#conversation.save();
    this.#idle();
    this.#log.keepAtEnd(() => answer.show(timeline));
    announce(timeline.state === "succeeded" ? "The answer is complete." : "The answer has ended.");
  }

  #idle() {
    this.#running = null;
    this.#send.hidden = false;
    hide(this.#stop, true, this.#message);
    say(this.#status, "");
  }

  #cancel() {
    if (document.activeElement === this.#stop) this.#message.focus();
    this.#stop.disabled = true;
    say(this.#status, "stopping");
    this.#running.canceled = true;
    const { job } = this.#running.turn;
    if (job) cancel(job).catch((problem) => { this.#stop.disabled = false; this.#fail(problem); });
  }

  #clear() {
    this.#running?.stop?.();
    if (this.#running?.turn.job) cancel(this.#running.turn.job).catch(() => {});
    this.#conversation.clear();
    this.#idle();
    this.#log.clear();
    this.#message.focus();
  }

  #restore() {
    this.#log.clear();
    for (const turn of this.#conversation.turns) {
      if (turn.timeline) this.#log.add(turn, turn.model).show(Object.assign(new Timeline(), turn.timeline));
      else if (turn.job) this.#watch(turn, this.#begin(turn));
      else this.#submit(turn);
    }
  }

  #fail(problem) {
    if (problem.field && this.#options.fail(problem.field, problem.message)) return;
    this.#error.hidden = false;
    say(this.#error, refusal(problem));
  }
}
