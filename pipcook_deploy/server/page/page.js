// The page of the prediction server: an image or a text in, the best five classes out.
const TOP = 5;
const get = (id) => document.getElementById(id);
let latest = 0; // answers that come after a newer question are dropped
let stream = null;
let previewUrl = null;

function show(id, visible) {
  get(id).hidden = !visible;
}

function fail(message) {
  get("error").textContent = message;
  show("error", true);
  get("bars").replaceChildren();
  get("latency").textContent = "";
}

function bar({ category, score }, width, shares) {
  const row = document.createElement("li");
  const fill = document.createElement("div");
  fill.className = "fill";
  fill.style.width = `${width}%`;
  const label = document.createElement("span");
  label.textContent = category;
  const value = document.createElement("span");
  value.textContent = score === null ? "not a number" : shares ? `${(score * 100).toFixed(1)} %` : score.toPrecision(4);
  row.append(fill, label, value);
  return row;
}

// Scores are the model's own values: they are shown as per cent only if all of them lie in [0, 1].
function bars(top) {
  const scores = top.map(({ score }) => score ?? 0);
  const shares = scores.every((score) => score >= 0 && score <= 1);
  const low = shares ? 0 : Math.min(0, ...scores);
  const range = shares ? 1 : Math.max(...scores) - low || 1;
  get("bars").replaceChildren(...top.map((row, i) => bar(row, ((scores[i] - low) / range) * 100, shares)));
}

async function ask(url, options) {
  const mine = ++latest;
  const start = performance.now();
  get("answer").setAttribute("aria-busy", "true");
  try {
    const response = await fetch(url, options);
    const answer = await response.json();
    if (mine !== latest) return;
    if (!answer.success) throw new Error(answer.message);
    show("error", false);
    bars(answer.data[0].top);
    get("latency").textContent = `${(performance.now() - start).toFixed(0)} ms, there and back`;
  } catch (error) {
    if (mine === latest) {
      fail(error instanceof TypeError ? "The server does not answer. Is it still running?" : error.message);
    }
  } finally {
    if (mine === latest) get("answer").removeAttribute("aria-busy");
  }
}

function sendImage(blob) {
  if (previewUrl) URL.revokeObjectURL(previewUrl);
  previewUrl = URL.createObjectURL(blob);
  get("preview").src = previewUrl;
  show("preview", true);
  show("invite", false);
  const form = new FormData();
  form.append("image", blob, blob.name ?? "camera.png");
  return ask(`predict?top=${TOP}`, { method: "POST", body: form });
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  show("video", false);
  show("shoot", false);
  show("camera", true);
}

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    fail(`The camera cannot be used: ${error.message}`);
    return;
  }
  const video = get("video");
  video.srcObject = stream;
  show("preview", false);
  show("invite", false);
  show("video", true);
  show("camera", false);
  show("shoot", true);
  await video.play();
  get("shoot").focus();
}

function shoot() {
  const video = get("video");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => blob && sendImage(blob), "image/png"); // lossless: no JPEG in between
  stopCamera();
  get("camera").focus();
}

function takeFile(files) {
  const [file] = files ?? [];
  if (!file) return;
  stopCamera();
  sendImage(file);
}

function setUpImage() {
  show("image-input", true);
  const drop = get("drop");
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
    takeFile(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => takeFile(event.clipboardData.files));
  get("choose").addEventListener("click", () => get("file").click());
  get("file").addEventListener("change", (event) => {
    takeFile(event.target.files);
    event.target.value = "";
  });
  if (navigator.mediaDevices?.getUserMedia) {
    get("camera").addEventListener("click", startCamera);
    get("shoot").addEventListener("click", shoot);
  } else show("camera", false); // browsers offer the camera on localhost and https only
}

function setUpText(takes) {
  show("text-input", true);
  if (takes === "numbers") {
    get("text-label").textContent = "Numbers, as JSON: [1, 2.5, …]";
  }
  get("text-input").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = new URLSearchParams({ top: TOP, input: get("text").value });
    ask(`predict?${query}`);
  });
  get("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) get("text-input").requestSubmit();
  });
}

async function start() {
  const about = await (await fetch("page.json")).json();
  document.title = about.name;
  get("name").textContent = about.name;
  const classes = about.classes ? `, ${about.classes} classes` : "";
  get("about").textContent = about.description ?? `${about.task}${classes}, version ${about.version}`;
  if (about.takes === "image") setUpImage();
  else if (about.takes) setUpText(about.takes);
  else {
    get("nothing").textContent =
      "This model says nothing about how its input is made from an image or a text. " +
      `It answers tensors at /v2/models/${about.name}/infer.`;
    show("nothing", true);
  }
}

start().catch((error) => fail(`The page could not start: ${error.message}`));
