// Submit a clip. `fetch` cannot tell how much is sent, so an older interface does it.

import { authorization, Problem } from "../api.js";

// Return {answer, abort}: `answer` is a promise of the job. `onProgress` gets the share that is sent, from 0 to 1.
export function upload(fields, clip, onProgress) {
  const request = new XMLHttpRequest();
  const answer = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => { if (event.lengthComputable) onProgress(event.loaded / event.total); };
    request.onload = () => (request.status < 300 ? resolve(JSON.parse(request.responseText)) : reject(problemOf(request)));
    request.onerror = () => reject(request.status ? problemOf(request) : new Problem(0, { detail: "The upload broke off." }));
    request.onabort = () => reject(new Problem(0, { detail: "You stopped the upload.", code: "aborted" }));
  });
  request.open("POST", "v1/jobs/video");
  for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
  request.send(formOf(fields, clip));
  return { answer, abort: () => request.abort() };
}

// Texts come first, so that the API refuses a wrong one before it has received the files.
function formOf(fields, clip) {
  const form = new FormData();
  const entries = Object.entries(fields);
  for (const [name, value] of entries) if (!(value instanceof File)) form.append(name, String(value));
  for (const [name, value] of entries) if (value instanceof File) form.append(name, value);
  form.append("file", clip);
  return form;
}

function problemOf(request) {
  let document = {};
  try {
    document = JSON.parse(request.responseText);
  } catch {
    // a proxy has answered
  }
  return new Problem(request.status, document, Number(request.getResponseHeader("Retry-After")) || null);
}
