// Vercel's AI SDK, with its provider for OpenAI-compatible APIs: node ai_sdk.mjs URL MODEL
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateObject, generateText, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { CITIES, JAPAN, checkWeather, errorOf, run, target, waitUntilCanceled } from "./checks.mjs";

const options = { name: "stoker", baseURL: target.baseURL, includeUsage: true, supportsStructuredOutputs: true };
const provider = createOpenAICompatible(options);
const defaults = { model: provider(target.model), prompt: JAPAN, temperature: 0, maxOutputTokens: 96, maxRetries: 0 };
const schema = z.object({ city: z.enum(CITIES), days: z.union([z.literal(1), z.literal(2), z.literal(3)]) });
const weather = tool({ description: "Tells the weather.", inputSchema: schema, execute: async () => "sunny" });
const tools = { weather };
// If a request may make several calls, a small model does not stop.
const one = { stoker: { parallel_tool_calls: false } };
const mustCall = { tools, toolChoice: "required", providerOptions: one };

const generate = (request = {}) => generateText({ ...defaults, ...request });
const textOf = async (request) => (await generate(request)).text;

await run("ai", {
  chat: async () => assert.match(await textOf(), /Tokyo/),
  stream: async () => {
    const pieces = [];
    for await (const piece of streamText(defaults).textStream) pieces.push(piece);
    assert.equal(pieces.join(""), await textOf());
    assert.ok(pieces.length > 1);
  },
  "usage in a stream": async () => {
    const { inputTokens, outputTokens, totalTokens } = await streamText(defaults).usage;
    assert.ok(outputTokens > 0 && totalTokens === inputTokens + outputTokens);
  },
  "sampling parameters": async () => {
    const others = { stoker: { logit_bias: { 5: -100 }, min_p: 0.02 } };
    const request = { temperature: 1.5, seed: 7, presencePenalty: 0.5, frequencyPenalty: 0.5, providerOptions: others };
    const first = await textOf(request);
    assert.equal(await textOf(request), first);
    assert.notEqual(await textOf(), first);
  },
  "log-probabilities": "the provider for compatible APIs does not read them",
  "several choices": "an answer has one text",
  "JSON schema": async () => {
    checkWeather((await generateObject({ ...defaults, schema })).object);
    checkWeather((await generate({ output: Output.object({ schema }) })).output);
    const streamed = streamObject({ ...defaults, schema });
    let last;
    for await (last of streamed.partialObjectStream);
    checkWeather(last);
  },
  "required tool": async () => {
    const { toolCalls, finishReason } = await generate(mustCall);
    assert.equal(finishReason, "tool-calls");
    checkWeather(toolCalls[0].input);
  },
  "named tool": async () => {
    const { toolCalls } = await generate({ tools, toolChoice: { type: "tool", toolName: "weather" } });
    checkWeather(toolCalls[0].input);
  },
  "optional tool": async () => {
    const { text, toolCalls } = await generate({ tools });
    assert.ok(text || toolCalls.length > 0);
  },
  "tool call in a stream": async () => {
    const kinds = [];
    const result = streamText({ ...defaults, ...mustCall });
    for await (const part of result.fullStream) kinds.push(part.type);
    checkWeather((await result.toolCalls)[0].input);
    assert.ok(kinds.filter((kind) => kind === "tool-input-delta").length > 1, kinds.join());
  },
  "result of a tool": async () => {
    const first = await generate(mustCall);
    const messages = [{ role: "user", content: JAPAN }, ...first.response.messages];
    assert.equal(messages.at(-1).role, "tool");
    assert.ok(await textOf({ prompt: undefined, messages, tools, toolChoice: "none" }));
  },
  "unknown model": async () => {
    const error = await errorOf(generate({ model: provider("no-such-model") }));
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.statusCode, 404);
  },
  "prompt too long": async () => {
    const error = await errorOf(generate({ prompt: "word ".repeat(9000) }));
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.data.error.code, "context_length_exceeded");
  },
  "cancel by closing the stream": async () => {
    const leaving = new AbortController();
    const providerOptions = { stoker: { ignore_eos: true } };
    const request = { ...defaults, maxOutputTokens: 2000, providerOptions, abortSignal: leaving.signal };
    for await (const _ of streamText(request).textStream) leaving.abort();
    await waitUntilCanceled();
  },
});
