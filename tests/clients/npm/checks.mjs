// Runs the checks of one client, and prints a line of JSON for each feature.
import assert from "node:assert/strict";
import fs from "node:fs";
import { setTimeout as pause } from "node:timers/promises";

const [url, model, ...wanted] = process.argv.slice(2);
export const target = { baseURL: `${url}/v1`, model };
export const JAPAN = "What is the capital of Japan?";
export const CITIES = ["Tokyo", "Oslo"];

async function newestJob() {
  const response = await fetch(`${url}/v1/jobs?limit=1`);
  return (await response.json()).jobs[0];
}

// Wait until the newest job has ended. It must have been canceled.
export async function waitUntilCanceled() {
  const deadline = Date.now() + 30_000;
  let { state } = await newestJob();
  while (["queued", "running"].includes(state) && Date.now() < deadline) {
    await pause(50);
    ({ state } = await newestJob());
  }
  assert.equal(state, "canceled");
}

export function checkWeather(given) {
  assert.deepEqual(Object.keys(given).sort(), ["city", "days"]);
  assert.ok(CITIES.includes(given.city) && [1, 2, 3].includes(given.days), JSON.stringify(given));
}

// The error with which the promise ends. It is an error if there is none.
export async function errorOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("an answer");
}

// Run the checks, or those of the features that the command line names. A check that returns a text gives a remark; a text in place of a check says why it lacks.
export async function run(client, features) {
  const [folder] = import.meta.resolve(client).match(`.*/node_modules/${client}/`);
  const { version } = JSON.parse(fs.readFileSync(new URL("package.json", folder)));
  let good = true;
  for (const [feature, check] of Object.entries(features)) {
    if (wanted.length > 0 && !wanted.includes(feature)) continue;
    let [status, detail] = ["lacks", check];
    if (typeof check !== "string") {
      try {
        [status, detail] = ["works", (await check()) ?? ""];
      } catch (error) {
        [status, detail, good] = ["fails", `${error.name}: ${error.message}`.slice(0, 500), false];
      }
    }
    console.log(JSON.stringify({ client: `${client} (npm)`, version, feature, status, detail }));
  }
  process.exit(good ? 0 : 1);
}
