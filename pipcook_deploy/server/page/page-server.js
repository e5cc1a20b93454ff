// Asking the server: keys, times, and errors in words.
const STORE = "pipcook-deploy-key"; // for this tab only
export class KeyNeeded extends Error {}

export function useKey(key) {
  sessionStorage.setItem(STORE, key);
}

export function hasKey() {
  return Boolean(sessionStorage.getItem(STORE));
}

// {status, value, trip: ms there and back, steps: {prepare, compute, total} ms or null, model: "name/version" or null}
export async function ask(url, options = {}) {
  const key = sessionStorage.getItem(STORE);
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const start = performance.now();
  let response, text;
  try {
    response = await fetch(url, { ...options, headers });
    text = await response.text();
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const trip = performance.now() - start;
  const value = parsed(text);
  if (response.status === 401) throw new KeyNeeded(reason(value, response));
  if (!response.ok) throw new Error(reason(value, response));
  const model = response.headers.get("x-model");
  return { value, trip, steps: steps(response), model: model && decodeURIComponent(model) };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function reason(value, response) {
  return value?.message ?? value?.error ?? `the server answers ${response.status}`;
}

function steps(response) {
  const header = response.headers.get("server-timing");
  if (!header) return null;
  const rows = header.split(",").map((part) => part.trim().match(/^(\w+);dur=([\d.]+)$/));
  return Object.fromEntries(rows.filter(Boolean).map(([, name, ms]) => [name, Number(ms)]));
}

export function milliseconds(value) {
  return value < 9.95 ? value.toFixed(1) : value.toFixed(0);
}
