// The conversation of this tab. It survives a reload of the page, and ends with the tab.

const NAME = "stoker.conversation";

// A turn is {question, key, body, job, timeline}. The last one may still run: it has no `timeline`.
export class Conversation {
  constructor() {
    this.turns = JSON.parse(sessionStorage.getItem(NAME) ?? "[]");
  }

  add(turn) {
    this.turns.push(turn);
    this.save();
  }

  drop(turn) {
    this.turns = this.turns.filter((one) => one !== turn);
    this.save();
  }

  clear() {
    this.turns = [];
    this.save();
  }

  save() {
    try {
      sessionStorage.setItem(NAME, JSON.stringify(this.turns));
    } catch {
      // The storage is full. The conversation goes on, and a reload shows it as it was saved last.
    }
  }

  // The messages of a new request: only turns with an answer, because some models refuse two questions in a row.
  messages(system, question) {
    const before = this.turns.flatMap((turn) => {
      const text = turn.timeline?.parts.map((part) => part.text ?? "").join("");
      return text ? [{ role: "user", content: turn.question }, { role: "assistant", content: text }] : [];
    });
    const first = system ? [{ role: "system", content: system }] : [];
    return [...first, ...before, { role: "user", content: question }];
  }
}
