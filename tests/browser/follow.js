// Follow a job, in a page or in Node. The EventSource reconnects until the API answers 204 after the last event.
const TYPES = ["queued", "started", "token", "batch", "progress", "requeued", "succeeded", "failed", "canceled"];

export function follow(EventSource, url, options, report) {
  const source = new EventSource(url, options);
  for (const type of TYPES) {
    source.addEventListener(type, (event) => report({ id: event.lastEventId, type, data: event.data }));
  }
  source.onerror = () => report({ error: source.readyState === EventSource.CLOSED ? "closed" : "reconnecting" });
}
