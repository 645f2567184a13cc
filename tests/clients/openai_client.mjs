// Use OpenAI's npm client against the API: node openai_client.mjs URL ACTION [OPTIONS]
// OPTIONS is JSON. The result or the error is printed as JSON, and the status of each response goes to stderr.
import fs from "node:fs";
import OpenAI, { toFile } from "openai";

const [url, action, text = "{}"] = process.argv.slice(2);
const options = JSON.parse(text);
const loggingFetch = async (...request) => {
  const response = await fetch(...request);
  console.error(response.status);
  return response;
};
const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: options.retries ?? 0, fetch: loggingFetch });
const request = { model: "tiny", messages: [{ role: "user", content: "Hi" }], ...options.request };

const actions = {
  models: async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids, one: await client.models.retrieve(ids[0]) };
  },
  chat: async () => {
    const { data, response } = await client.chat.completions.create(request).withResponse();
    return { completion: data, job: response.headers.get("x-stoker-job") };
  },
  stream: async () => {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      chunks.push(chunk);
      if (chunks.length === options.leave_after) break; // the client then closes the connection
    }
    return chunks;
  },
  video: async () => {
    const clip = await toFile(fs.createReadStream(options.clip), "clip.mp4", { type: "video/mp4" });
    const video = await client.videos.create({ prompt: "a sea", model: "matte", input_reference: clip });
    let ended = video;
    while (ended.status !== "completed") {
      await new Promise((resolve) => setTimeout(resolve, 20));
      ended = await client.videos.retrieve(video.id);
    }
    const content = await (await client.videos.downloadContent(video.id)).text();
    const listed = [];
    for await (const one of client.videos.list({ limit: 1 })) listed.push(one.id);
    return { video, ended, content, listed, deleted: await client.videos.delete(video.id) };
  },
};

try {
  console.log(JSON.stringify({ result: await actions[action]() }));
} catch (error) {
  const { name, message, status, code, type, param } = error;
  console.log(JSON.stringify({ error: { name: error.constructor.name ?? name, message, status, code, type, param } }));
}
