// OpenAI's npm client: node openai_npm.mjs URL MODEL
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { CITIES, JAPAN, checkWeather, errorOf, run, target, waitUntilCanceled } from "./checks.mjs";

const client = new OpenAI({ baseURL: target.baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: JAPAN }];
const Weather = z.object({ city: z.enum(CITIES), days: z.union([z.literal(1), z.literal(2), z.literal(3)]) });
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: CITIES }, days: { type: "integer", enum: [1, 2, 3] } },
  required: ["city", "days"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", description: "Tells the weather.", parameters } }];
// If a request may make several calls, a small model does not stop.
const mustCall = { tools, tool_choice: "required", parallel_tool_calls: false };

const defaults = { model: target.model, messages, temperature: 0, max_completion_tokens: 96 };
const create = (request = {}) => client.chat.completions.create({ ...defaults, ...request });
const textOf = async (request) => (await create(request)).choices[0].message.content;
const callsOf = async (request) => (await create({ tools, ...request })).choices[0].message.tool_calls;

await run("openai", {
  chat: async () => assert.match(await textOf(), /Tokyo/),
  stream: async () => {
    const pieces = [];
    for await (const chunk of await create({ stream: true })) pieces.push(chunk.choices[0].delta.content ?? "");
    assert.equal(pieces.join(""), await textOf());
    assert.ok(pieces.length > 1);
  },
  "usage in a stream": async () => {
    let last;
    for await (last of await create({ stream: true, stream_options: { include_usage: true } }));
    const { prompt_tokens, completion_tokens, total_tokens } = last.usage;
    assert.ok(completion_tokens > 0 && total_tokens === prompt_tokens + completion_tokens);
  },
  "sampling parameters": async () => {
    const penalties = { presence_penalty: 0.5, frequency_penalty: 0.5, logit_bias: { 5: -100 } };
    const request = { temperature: 1.5, seed: 7, ...penalties, top_k: 20, min_p: 0.02 };
    const first = await textOf(request);
    assert.equal(await textOf(request), first);
    assert.notEqual(await textOf(), first);
  },
  "log-probabilities": async () => {
    const tokens = (await create({ logprobs: true, top_logprobs: 2 })).choices[0].logprobs.content;
    assert.ok(tokens.length > 0 && tokens.every((token) => token.top_logprobs.length === 2));
  },
  "several choices": async () => {
    const { choices } = await create({ n: 3, temperature: 1, seed: 1 });
    assert.deepEqual(choices.map((choice) => choice.index), [0, 1, 2]);
    assert.ok(new Set(choices.map((choice) => choice.message.content)).size > 1);
  },
  "JSON schema": async () => {
    const response_format = zodResponseFormat(Weather, "weather");
    const { choices } = await client.chat.completions.parse({ ...defaults, response_format });
    checkWeather(choices[0].message.parsed);
  },
  "required tool": async () => {
    const [call] = await callsOf(mustCall);
    checkWeather(JSON.parse(call.function.arguments));
  },
  "named tool": async () => {
    const [call] = await callsOf({ tool_choice: { type: "function", function: { name: "get_weather" } } });
    assert.equal(call.function.name, "get_weather");
    checkWeather(JSON.parse(call.function.arguments));
  },
  "optional tool": async () => {
    const { message } = (await create({ tools })).choices[0];
    assert.ok(message.content || message.tool_calls);
  },
  "tool call in a stream": async () => {
    let pieces = 0;
    const runner = client.chat.completions.stream({ ...defaults, ...mustCall });
    runner.on("tool_calls.function.arguments.delta", () => (pieces += 1));
    const [call] = (await runner.finalMessage()).tool_calls;
    checkWeather(JSON.parse(call.function.arguments));
    assert.ok(pieces > 1);
  },
  "result of a tool": async () => {
    const { message } = (await create({ ...mustCall })).choices[0];
    const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "It is sunny." };
    assert.ok(await textOf({ messages: [...messages, message, result], tools, tool_choice: "none" }));
  },
  "unknown model": async () => {
    const error = await errorOf(create({ model: "no-such-model" }));
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
  },
  "prompt too long": async () => {
    const error = await errorOf(create({ messages: [{ role: "user", content: "word ".repeat(9000) }] }));
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.code, "context_length_exceeded");
  },
  "cancel by closing the stream": async () => {
    const request = { stream: true, max_completion_tokens: 2000, ignore_eos: true };
    for await (const _ of await create(request)) break; // the client then closes the connection
    await waitUntilCanceled();
  },
});
