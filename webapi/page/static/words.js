// Errors and causes in words, each with the next step.

const CAUSES = {
  bad_video: "the clip cannot be read",
  engine_failed: "the engine could not finish it",
  model_failed: "the model raised an error",
  invalid_options: "the worker's model refuses the options",
  invalid_structured_outputs: "the form of the answer cannot be used",
  out_of_memory: "there was not enough memory",
  disk_full: "there is no room for its files",
  media_unavailable: "the media store did not answer",
  timeout: "it took longer than its timeout",
  expired: "it waited too long for a worker",
  worker_lost: "it lost its worker too often",
  unsupported: "a newer release is needed to run it",
  internal_error: "the worker met an unexpected error",
};

// The cause of a failed job: the words for its code, and what the worker has said.
export function cause(error) {
  if (!error) return "the cause is not known";
  const words = CAUSES[error.code] ?? error.code.replaceAll("_", " ");
  return error.message ? `${words}: ${error.message}` : words;
}

const REASONS = {
  worker_lost: "was lost",
  engine_lost: "lost its engine",
  redis_lost: "lost its connection to Redis",
  drain: "was stopped and handed over",
};

// Why a worker has left a job, as the end of a sentence about this worker.
export const reason = (code) => REASONS[code] ?? code.replaceAll("_", " ");

const NEXT_STEPS = {
  401: "Enter a key that the API accepts.",
  403: "Ask your administrator for a key with this scope.",
  413: "Choose something smaller.",
  507: "Delete jobs that you no longer need.",
};

// A refused request as a sentence, with the next step.
export function refusal(problem) {
  if (problem.code === "context_length_exceeded")
    return "The conversation is longer than the model can read. Start a new one.";
  const next = problem.retryAfter ? `Try again in ${problem.retryAfter} s.` : NEXT_STEPS[problem.status];
  const detail = /[.!?]$/.test(problem.message) ? problem.message : `${problem.message}.`;
  return [sentence(detail), next].filter(Boolean).join(" ");
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
