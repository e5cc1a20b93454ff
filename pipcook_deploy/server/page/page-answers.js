// What the server answered, as bars, boxes or numbers.
import { milliseconds } from "./page-server.js";

const get = (id) => document.getElementById(id);
const MANY = 64; // numbers of an output that are shown one below the other
const LONGEST = 20000; // characters of a larger one
let framed = 0; // frames that come after a newer answer are dropped

export function clear() {
  framed += 1;
  get("bars").replaceChildren();
  get("outputs").replaceChildren();
  get("boxes").replaceChildren();
  get("latency").replaceChildren();
  get("answered").textContent = "";
  get("answered").hidden = true;
  get("error").hidden = true;
  get("waiting").hidden = false;
}

export function fail(message) {
  clear();
  get("waiting").hidden = true;
  get("error").textContent = message;
  get("error").hidden = false;
}

export function show(answer, gives, several) {
  clear();
  get("waiting").hidden = true;
  const { value } = answer;
  if (value.outputs) tensors(value.outputs);
  else if (gives === "boxes") boxes(value.data[0]);
  else if (gives === "classes") bars(value.data[0].top);
  else outputs(value.data[0].outputs);
  get("latency").replaceChildren(...times(answer).map(([name, ms]) => time(name, ms)));
  get("answered").textContent = several && answer.model ? `Answered by ${answer.model.replace("/", ", version ")}` : "";
  get("answered").hidden = !get("answered").textContent;
}

function times({ trip, steps }) {
  if (!steps) return [["Round trip", trip]];
  const { prepare, compute, total } = steps;
  return [["Round trip", trip], ["Server", total], ["Prepare", prepare], ["Model", compute]];
}

function time(name, ms) {
  const part = document.createElement("div");
  part.append(make("dt", "", name), make("dd", "", `${milliseconds(ms)} ms`));
  return part;
}

function bar(category, score, width, shares) {
  const row = document.createElement("li");
  const words = make("div", "words");
  words.append(make("span", "", category), make("span", "", worded(score, shares)));
  const track = make("div", "track");
  const fill = make("div", "fill");
  fill.style.width = `${width}%`;
  track.append(fill);
  row.append(words, track);
  return row;
}

function worded(score, shares) {
  if (score === null) return "not a number";
  return shares ? `${(score * 100).toFixed(1)} %` : score.toPrecision(4);
}

// Scores are the model's own values: they are shown as per cent only if all of them lie in [0, 1].
function bars(top) {
  const scores = top.map(({ score }) => score ?? 0);
  const shares = scores.every((score) => score >= 0 && score <= 1);
  const low = shares ? 0 : Math.min(0, ...scores);
  const range = shares ? 1 : Math.max(...scores) - low || 1;
  const rows = top.map(({ category, score }, i) => bar(category, score, ((scores[i] - low) / range) * 100, shares));
  get("bars").replaceChildren(...rows);
}

function boxes(found) {
  if (!found.length) {
    get("outputs").append(make("p", "hint", "Nothing was found with a score of 50 % or more."));
    return;
  }
  bars(found);
  const mine = ++framed;
  // An answer can be there before the picture is: until then its size is 0.
  get("preview").decode().then(() => mine === framed && frame(found), () => {});
}

function frame(found) {
  const { naturalWidth, naturalHeight } = get("preview");
  const sides = { left: naturalWidth, top: naturalHeight, width: naturalWidth, height: naturalHeight };
  for (const { category, box } of found) {
    const around = make("div", "", "");
    Object.entries(sides).forEach(([side, whole], i) => (around.style[side] = `${(100 * box[i]) / whole}%`));
    around.append(make("span", "", category));
    get("boxes").append(around);
  }
}

function outputs(named) {
  for (const [name, value] of Object.entries(named)) {
    if (value?.png) picture(name, value.png);
    else block(name, shape(value), flat(value), value);
  }
}

function tensors(rows) {
  for (const row of rows) block(row.name, row.shape, row.data, row.data, row.datatype);
}

function block(name, sizes, values, whole, type = "") {
  const part = document.createElement("section");
  const head = make("h2", "", name);
  head.append(" ", make("small", "", `${type} ${sizes.length ? `[${sizes.join(", ")}]` : ""}`.trim()));
  part.append(head);
  if (values.length <= 4) part.append(make("div", "value", values.map(said).join(", ")));
  else {
    const text = values.length <= MANY ? values.map(said).join("\n") : JSON.stringify(whole);
    const cut = text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text;
    const shown = make("pre", "", cut);
    shown.tabIndex = 0; // to be scrolled by keyboard
    part.append(shown);
  }
  get("outputs").append(part);
}

function picture(name, png) {
  const part = document.createElement("section");
  const image = document.createElement("img");
  image.alt = `The picture that the model answers as ${name}`;
  image.src = `data:image/png;base64,${png}`;
  part.append(make("h2", "", name), image);
  get("outputs").append(part);
}

function said(value) {
  if (value === null) return "not a number";
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(7))) : String(value);
}

function shape(value) {
  return Array.isArray(value) ? [value.length, ...(value.length ? shape(value[0]) : [])] : [];
}

function flat(value) {
  return Array.isArray(value) ? value.flat(Infinity) : [value];
}

export function make(tag, className, text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}
