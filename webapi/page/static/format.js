// Numbers, times and sizes as people read them.

const COUNT = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (number) => COUNT.format(number);

export function plural(number, word, many = `${word}s`) {
  return `${count(number)} ${number === 1 ? word : many}`;
}

// 61 or 8.4: a rate of less than ten has a decimal.
export function rate(number) {
  return number < 9.95 ? number.toFixed(1) : count(number);
}

// 85 ms, 2.4 s, 75 s
export function seconds(value) {
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  return value < 9.95 ? `${value.toFixed(1)} s` : `${count(value)} s`;
}

// 0:02, 12:41, 1:02:03
export function clock(value) {
  const whole = Math.max(0, Math.round(value));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, n) => (n ? String(part).padStart(2, "0") : String(part))).join(":");
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = value > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(value) / 10)) : 0;
  const scaled = value / 1024 ** power;
  return `${scaled < 9.95 && power ? scaled.toFixed(1) : Math.round(scaled)} ${units[power]}`;
}

export function ago(time, now = Date.now()) {
  const passed = Math.max(0, (now - Date.parse(time)) / 1000);
  if (passed < 60) return `${Math.floor(passed)} s ago`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  return passed < 86400 ? `${Math.floor(passed / 3600)} h ago` : `${Math.floor(passed / 86400)} d ago`;
}

export const shortId = (id) => id.slice(0, 6);

// "cpu" or the UUIDs of GPUs
export function device(name) {
  if (!name) return "";
  return name.split(",").map((one) => (one === "cpu" ? "CPU" : one.replace(/^(GPU|MIG)-(.{4}).*/, "$1 $2"))).join(" + ");
}

// "chat-host-4711-9f3a" is long, so only its ends are shown: which kind, and which process.
export function workerName(name) {
  const parts = name.split("-");
  return parts.length > 3 ? `${parts[0]} ${parts.slice(-2).join("-")}` : name;
}
