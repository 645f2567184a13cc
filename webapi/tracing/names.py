"""The names of span attributes. Those of HTTP are imported from OpenTelemetry's package where they are used.

The conventions for messaging and generative AI may still change, and OpenTelemetry asks programs to copy such
names. These are of its registry 1.44. The conventions for generative AI have moved to
https://github.com/open-telemetry/semantic-conventions-genai.
"""

MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_MESSAGE_ID = "messaging.message.id"

GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_RESPONSE_ID = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens"

#: The attributes of the client's parameters, by the names of the parameters. All of them are numbers. A text,
#: such as one of `stop`, is the client's content.
GEN_AI_REQUEST = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "n": "gen_ai.request.choice.count",
}

STOKER_STATE = "stoker.job.state"
STOKER_ATTEMPT = "stoker.attempt"
STOKER_OUTCOME = "stoker.attempt.outcome"
STOKER_REQUEUE_REASON = "stoker.requeue.reason"
STOKER_WORKER = "stoker.worker"
STOKER_DEVICE = "stoker.device"
STOKER_VIDEO_MODEL = "stoker.video.model"
STOKER_VIDEO_FRAMES = "stoker.video.frames"
STOKER_VIDEO_PADDED_FRAMES = "stoker.video.padded_frames"
STOKER_VIDEO_BATCHES = "stoker.video.batches"
STOKER_VIDEO_STAGE_SECONDS = "stoker.video.{stage}_seconds"
