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

// Return the answer's JSON, or null if it has no body. Throws `Problem`.
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  const used = key();
  const response = await send(path, {
    method,
    signal,
    headers: { ...authorization(), ...headers, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) {
    if (used === key()) await askForKey(Boolean(used));
    return call(path, { method, body, headers, signal });
  }
  if (response.ok) {
    report("ok");
    return response.status === 204 ? null : response.json();
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

// The URL of a job's events or result that the browser itself loads. It cannot send a key, so it gets a token.
export async function tokenUrl(id, part) {
  if (!key()) return `v1/jobs/${id}/${part}`;
  const { token } = await call(`v1/jobs/${id}/token`, { method: "POST" });
  return `v1/jobs/${id}/${part}?token=${encodeURIComponent(token)}`;
}

export function idempotencyKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const cancel = (id) => call(`v1/jobs/${id}/cancel`, { method: "POST" });
