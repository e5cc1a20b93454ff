// The page of the prediction server: chooses the model, shows how to ask it, and what it answers.
import { clear, fail, make, show } from "./page-answers.js";
import { listenForImages, listenForTensors, listenForTexts, setUpRow, stopCamera, template } from "./page-inputs.js";
import { KeyNeeded, ask, hasKey, useKey } from "./page-server.js";

const TOP = 5;
const LABELS = { image: "Image", text: "Text", numbers: "Row", row: "Row" };
const get = (id) => document.getElementById(id);
let latest = 0; // answers that come after a newer question are dropped
let models = [];
let chosen = null; // {model, path: below which it answers}

async function send(request) {
  const tensors = mode() === "tensors";
  const path = tensors ? `v2/${chosen.path}/infer` : `${chosen.path}/predict?top=${TOP}`;
  await answer(path, request);
}

async function answer(path, { body, headers, command }) {
  const mine = ++latest;
  get("answer").setAttribute("aria-busy", "true");
  const url = new URL(path, document.baseURI).href.replaceAll("'", "%27");
  // The key itself stays out of what is copied.
  const key = hasKey() ? ' -H "x-api-key: $KEY"' : "";
  get("command").textContent = `curl${key} ${command} '${url}'`;
  try {
    const given = await ask(path, { method: "POST", body, headers });
    if (mine !== latest) return;
    show(given, chosen.model.gives, get("model").length > 1);
  } catch (error) {
    if (mine !== latest) return;
    fail(error.message);
    if (error instanceof KeyNeeded) get("key-form").hidden = false;
  }
  get("terminal").hidden = false;
  get("answer").removeAttribute("aria-busy");
}

function mode() {
  return chosen.model.takes ? document.querySelector("[name=mode]:checked").value : "tensors";
}

function showMode() {
  const takes = mode() === "tensors" ? "" : chosen.model.takes;
  get("image-input").hidden = takes !== "image";
  get("text-input").hidden = takes !== "text";
  get("row-input").hidden = takes !== "row" && takes !== "numbers";
  get("tensor-input").hidden = takes !== "";
  if (takes !== "image") stopCamera();
}

function choose(model, path) {
  latest++; // what is still on its way is another model's answer
  chosen = { model, path };
  document.title = model.name;
  get("name").textContent = model.name;
  get("about").textContent = model.description ?? "";
  const facts = [model.task.replaceAll("-", " "), `version ${model.version}`];
  if (model.classes) facts.push(`${model.classes} classes`);
  facts.push(model.engine);
  get("facts").replaceChildren(...facts.map((fact) => make("li", "", fact)));
  get("modes").hidden = !model.takes;
  get("sample-mode").textContent = LABELS[model.takes] ?? "";
  document.querySelector("[name=mode][value=sample]").checked = true;
  get("picture").hidden = true;
  get("invite").hidden = false;
  get("terminal").hidden = true;
  if (model.takes === "row" || model.takes === "numbers") setUpRow(model.inputs, send);
  setUpTensors(model);
  clear();
  showMode();
}

function setUpTensors(model) {
  const rows = model.inputs.map(({ name, dtype, shape }) => `${name}: ${dtype} [${shape.map((size) => size ?? "any").join(", ")}]`);
  const known = model.takes ? "" : "The model does not say how an image or a text becomes its input: it takes tensors. ";
  const large = model.template ? "" : "They are too large for an example. ";
  get("nothing").textContent = `${known}${large}Inputs: ${rows.join("; ")}`;
  get("nothing").hidden = false;
  const text = model.template ? template(model.template) : '{"inputs": []}';
  get("tensors").value = text;
  get("reset").onclick = () => {
    get("tensors").value = text;
    get("tensors").focus();
  };
}

// A model by itself follows its current version and its split; each version can be chosen as well.
function choices() {
  const at = (model, rest = "") => `models/${encodeURIComponent(model.name)}${rest}`;
  return models.flatMap((model) => {
    const alone = models.filter(({ name }) => name === model.name).length === 1;
    const version = at(model, `/versions/${encodeURIComponent(model.version)}`);
    const labels = model.version_labels.length ? ` (${model.version_labels.join(", ")})` : "";
    const rows = model.current ? [{ model, path: at(model), text: alone ? model.name : `${model.name}, current` }] : [];
    if (!alone) rows.push({ model, path: version, text: `${model.name}, version ${model.version}${labels}` });
    return rows;
  });
}

async function start() {
  const { value: about } = await ask("page.json");
  models = about.models;
  const rows = choices();
  const select = get("model");
  select.replaceChildren(...rows.map(({ text }) => make("option", "", text)));
  get("choice").hidden = rows.length < 2;
  const first = Math.max(0, rows.findIndex(({ model }) => model.name === about.name && model.current));
  select.selectedIndex = first;
  select.onchange = () => choose(rows[select.selectedIndex].model, rows[select.selectedIndex].path);
  choose(rows[first].model, rows[first].path);
}

async function begin() {
  try {
    await start();
    get("key-form").hidden = true;
  } catch (error) {
    if (!(error instanceof KeyNeeded)) return fail(`The page could not start: ${error.message}`);
    get("key-form").hidden = false;
    get("key").focus();
    if (hasKey()) fail(error.message); // who has given none yet has made no mistake
  }
}

listenForImages(send);
listenForTexts(send);
listenForTensors(send);
document.querySelectorAll("[name=mode]").forEach((radio) => radio.addEventListener("change", showMode));
get("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(get("key").value);
  clear();
  if (chosen) get("key-form").hidden = true;
  else begin();
});
begin();
