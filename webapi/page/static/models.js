// The models that are served, by kind. Only models that process videos have options of their own in `parameters`.

import { call } from "./api.js";

export async function models(kind) {
  const { data } = await call("v1/models");
  return data.filter((model) => (model.kind ?? (model.max_model_len === null && model.parameters ? "video" : "chat")) === kind);
}
