// The ways to ask: an image, a text, a table's row, tensors. Each calls send({body, headers, command}).
import { fail, make } from "./page-answers.js";

const get = (id) => document.getElementById(id);
const FIELDS = 64; // elements of an input that get a field each
let stream = null;
let starting = false; // the browser is asking for leave
let previewUrl = null;

export function json(text) {
  const headers = { "content-type": "application/json" };
  return { body: text, headers, command: `-H 'Content-Type: application/json' -d ${quoted(text)}` };
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// Images

function sendImage(blob, send) {
  if (previewUrl) URL.revokeObjectURL(previewUrl);
  previewUrl = URL.createObjectURL(blob);
  get("preview").src = previewUrl;
  get("picture").hidden = false;
  get("invite").hidden = true;
  const form = new FormData();
  const name = blob.name ?? "camera.png";
  form.append("image", blob, name);
  send({ body: form, command: `-F image=@${quoted(name)}` });
}

export function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  get("video").hidden = true;
  get("shoot").hidden = true;
  get("camera").hidden = !navigator.mediaDevices?.getUserMedia;
}

async function startCamera() {
  if (starting) return;
  starting = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    fail(`The camera cannot be used: ${error.message}`);
    return;
  } finally {
    starting = false;
  }
  const video = get("video");
  video.srcObject = stream;
  get("picture").hidden = true;
  get("invite").hidden = true;
  get("camera").hidden = true;
  video.hidden = false;
  get("shoot").hidden = false;
  await video.play();
  get("shoot").focus();
}

function shoot(send) {
  const video = get("video");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => blob && sendImage(blob, send), "image/png"); // lossless: no JPEG in between
  stopCamera();
  get("camera").focus();
}

export function listenForImages(send) {
  const drop = get("drop");
  const shown = () => !get("image-input").hidden;
  const take = (files) => {
    if (!files?.length || !shown()) return;
    stopCamera();
    sendImage(files[0], send);
  };
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  get("choose").addEventListener("click", () => get("file").click());
  get("file").addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = "";
  });
  get("camera").addEventListener("click", startCamera);
  get("shoot").addEventListener("click", () => shoot(send));
  stopCamera(); // browsers offer the camera on localhost and https only
}

// A table's row: a field for each column

// Fields of one input as {element, read}: read gives its JSON, or throws with what is wrong.
function fields(input) {
  const sizes = input.shape.slice(1);
  const count = sizes.length === 1 ? sizes[0] : sizes.length ? null : 1;
  if (input.kind === "image") return imageField(input);
  if (input.kind === "text") return lone(input, "text");
  if (count === 1) return lone(input, input.dtype === "bool" ? "checkbox" : "number");
  return count && count <= FIELDS && input.dtype !== "string" ? vector(input, count) : written(input, sizes);
}

function labelled(input, control, hint) {
  control.id = `column-${input.name}`;
  const label = make("label", "", input.name);
  label.htmlFor = control.id;
  if (hint) label.append(" ", make("small", "", hint));
  const element = make("div", "column");
  element.append(label, control);
  return element;
}

function lone(input, type) {
  const control = document.createElement("input");
  control.type = type;
  if (type === "number") control.step = "any";
  const element = labelled(input, control, type === "number" ? input.dtype : "");
  return { element, read: () => (type === "checkbox" ? String(control.checked) : read(control, type, input.dtype)) };
}

function imageField(input) {
  const control = document.createElement("input");
  control.type = "file";
  control.accept = "image/*";
  const element = labelled(input, control, "image");
  element.classList.add("wide");
  return { element, read: async () => JSON.stringify(await base64(mustHave(control))) };
}

function mustHave(control) {
  if (!control.files.length) throw mistake(control, "Choose a file.");
  return control.files[0];
}

async function base64(file) {
  return new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(file);
  });
}

function vector(input, count) {
  const element = make("fieldset", "group");
  element.append(make("legend", "", input.name));
  const name = make("div", "name", input.name);
  name.append(" ", make("small", "hint", `${count} × ${input.dtype}`));
  element.append(name);
  const controls = Array.from({ length: count }, (_, i) => {
    const control = document.createElement("input");
    control.type = "number";
    control.step = "any";
    const part = labelled({ name: `${input.name}-${i}` }, control);
    part.querySelector("label").textContent = String(i + 1);
    control.setAttribute("aria-label", `${input.name}, number ${i + 1} of ${count}`);
    element.append(part);
    return control;
  });
  return { element, read: () => `[${controls.map((control) => read(control, "number", input.dtype)).join(", ")}]` };
}

function written(input, sizes) {
  const control = document.createElement("textarea");
  control.rows = 5;
  control.className = "code";
  control.spellcheck = false;
  const element = labelled(input, control, `JSON, ${input.dtype} [${sizes.map((size) => size ?? "any").join(", ")}]`);
  element.classList.add("wide");
  return { element, read: () => checked(control) };
}

function checked(control) {
  try {
    JSON.parse(control.value);
  } catch (error) {
    throw mistake(control, `This is not JSON: ${error.message}`);
  }
  return control.value;
}

// As text, so that whole numbers above 2^53 stay what they are.
function read(control, type, dtype) {
  if (type === "text") return JSON.stringify(control.value);
  const text = control.value.trim();
  if (text === "" || !Number.isFinite(Number(text))) throw mistake(control, "A number is needed.");
  if (!/int/.test(dtype)) return String(Number(text));
  if (!/^[+-]?\d+$/.test(text)) throw mistake(control, "A whole number is needed.");
  return String(BigInt(text));
}

function mistake(control, message) {
  control.setAttribute("aria-invalid", "true");
  const told = make("span", "mistake", message);
  told.id = `${control.id}-mistake`;
  control.setAttribute("aria-describedby", told.id);
  control.after(told);
  control.focus();
  return new Error(message);
}

function forgive(form) {
  form.querySelectorAll(".mistake").forEach((element) => element.remove());
  form.querySelectorAll("[aria-invalid]").forEach((control) => {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-describedby");
  });
}

export function setUpRow(inputs, send) {
  const form = get("row-input");
  const columns = inputs.map((input) => ({ input, ...fields(input) }));
  get("columns").replaceChildren(...columns.map(({ element }) => element));
  form.onsubmit = async (event) => {
    event.preventDefault();
    forgive(form);
    const parts = [];
    try {
      for (const { input, read: value } of columns) parts.push(`${JSON.stringify(input.name)}: ${await value()}`);
    } catch {
      return; // told beside the field
    }
    send(json(`{"row": {${parts.join(", ")}}}`));
  };
}

// Text and tensors

function onControlEnter(area, form) {
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

export function listenForTexts(send) {
  const form = get("text-input");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(json(JSON.stringify({ text: get("text").value })));
  });
  onControlEnter(get("text"), form);
}

export function listenForTensors(send) {
  const form = get("tensor-input");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    forgive(form);
    try {
      send(json(checked(get("tensors"))));
    } catch {
      // told beside the field
    }
  });
  onControlEnter(get("tensors"), form);
}

// A row of numbers a line, not a number a line.
export function template(value) {
  return JSON.stringify(value, null, 2).replace(/\[[^[\]{}]*\]/g, (list) => list.replace(/\s+/g, " "));
}
