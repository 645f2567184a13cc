// One conversation of OpenAI's npm client with the API: node openai_client.mjs URL SCENE [JSON] says what
// came of it as JSON, and on stderr each answer's status as it comes.
import fs from "node:fs";
import OpenAI, { toFile } from "openai";

const [url, scene, text = "{}"] = process.argv.slice(2);
const given = JSON.parse(text);
const told = async (...request) => {
  const response = await fetch(...request);
  console.error(response.status);
  return response;
};
const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: given.retries ?? 0, fetch: told });
const request = { model: "tiny", messages: [{ role: "user", content: "Hi" }], ...given.request };

const scenes = {
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
      if (chunks.length === given.leave_after) break; // which hangs up
    }
    return chunks;
  },
  video: async () => {
    const clip = await toFile(fs.createReadStream(given.clip), "clip.mp4", { type: "video/mp4" });
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
  console.log(JSON.stringify({ result: await scenes[scene]() }));
} catch (error) {
  const { name, message, status, code, type, param } = error;
  console.log(JSON.stringify({ error: { name: error.constructor.name ?? name, message, status, code, type, param } }));
}
