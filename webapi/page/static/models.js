// The models that are served, by kind. Only models that process videos have options of their own in `parameters`.

import { call } from "./api.js";
import { Poll } from "./poll.js";

const EVERY_MS = 3000;

export async function models(kind) {
  const { data } = await call("v1/models");
  return data.filter((model) => (model.kind ?? (model.max_model_len === null && model.parameters ? "video" : "chat")) === kind);
}

// Asks for the models of some options until there are any, so that the page needs no reload when Redis is back, or when
// the first worker has started. `onLoad` is called after each answer.
export class ModelPoll extends Poll {
  constructor(options, onProblem, onLoad = () => {}) {
    super(async () => {
      try {
        await options.load();
      } catch (problem) {
        if (![0, 503].includes(problem.status)) onProblem(problem);  // else the banner says it
        throw problem;
      }
      onLoad();
      if (!options.isEmpty) this.stop();
    }, EVERY_MS);
  }
}
