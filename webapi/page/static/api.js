// Requests to the API. Paths are relative, so that the page also works behind a proxy with a prefix.

import { report } from "./health.js";
import { askForKey, key } from "./key.js";

export class Problem extends Error {
  constructor(status, { detail, code, field } = {}, retryAfter = null) {
    super(detail ?? "The API does not answer.");
    Object.assign(this, { status, code: code ?? "unreachable", field, retryAfter });
  }
}

export function authorization() {
  return key() ? { Authorization: `Bearer ${key()}` } : {};
}

// Return the answer's JSON, or its text if that is asked for, or null if it has no body. Throws `Problem`.
export async function call(path, { method = "GET", body, headers = {}, signal, as = "json" } = {}) {
  const used = key();
  const response = await send(path, {
    method,
    signal,
    headers: { ...authorization(), ...headers, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) {
    if (used === key()) await askForKey(Boolean(used));
    return call(path, { method, body, headers, signal, as });
  }
  if (response.ok) {
    report("ok");
    return response.status === 204 ? null : response[as]();
  }
  throw await problemOf(response, method);
}

export async function problemOf(response, method) {
  const document = await response.json().catch(() => ({}));
  // Reads need no worker, so only a Redis that is away makes them fail in this way.
  if (response.status === 503 && method === "GET") report("away");
  return new Problem(response.status, document, Number(response.headers.get("Retry-After")) || null);
}

async function send(path, options) {
  try {
    return await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name !== "AbortError") report("unreachable");
    throw error.name === "AbortError" ? error : new Problem(0);
  }
}

// Let the browser itself load the job's events and result. It cannot send a key, so it gets a token as a cookie of
// this job's path. Return the time in milliseconds until the token expires.
export async function open(id) {
  if (!key()) return Infinity;
  const { expires_at: end } = await call(`v1/jobs/${id}/token`, { method: "POST" });
  return Date.parse(end) - Date.now();
}

// The same, until the returned function is called.
export async function keepOpen(id) {
  let timer = 0, stopped = false;
  const renew = async () => {
    const lasts = await open(id);
    if (!stopped && lasts < Infinity) timer = setTimeout(() => renew().catch(() => {}), Math.max(lasts / 2, 1000));
  };
  await renew();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

export function idempotencyKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const cancel = (id) => call(`v1/jobs/${id}/cancel`, { method: "POST" });
