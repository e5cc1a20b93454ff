// The OpenAPI document as a page, with a form for each route.
import { make } from "./page-answers.js";
import { ask, milliseconds, useKey } from "./page-server.js";

const get = (id) => document.getElementById(id);
const SHORT = 60; // characters of an object that is written in one line
const MAX_SHOWN = 20000; // characters of an answer
let document_ = null;

function slug(tag) {
  return tag.toLowerCase().replace(/\W+/g, "-");
}

function resolved(schema) {
  return schema?.$ref ? document_.components.schemas[schema.$ref.split("/").pop()] : schema;
}

// A schema in words: short where it can be, with what it refers to named.
function outlined(schema, depth = 0) {
  if (!schema || !Object.keys(schema).length) return "anything";
  if (schema.$ref && depth > 1) return schema.$ref.split("/").pop();
  const it = resolved(schema);
  if ("const" in it) return JSON.stringify(it.const);
  if (it.enum) return it.enum.map((value) => JSON.stringify(value)).join(" | ");
  const several = it.oneOf ?? it.anyOf;
  const pad = "  ".repeat(depth);
  if (several) return several.map((each) => outlined(each, depth)).join(`\n${pad}or `);
  if (it.type === "array") return `[${outlined(it.items ?? {}, depth)}, ...]`;
  if (it.properties) {
    const rows = Object.entries(it.properties).map(([name, value]) => {
      const optional = it.required?.includes(name) ? "" : "?";
      return `${pad}  ${name}${optional}: ${outlined(value, depth + 1)}`;
    });
    const line = rows.map((row) => row.trim()).join(", ");
    return line.length <= SHORT && !line.includes("\n") ? `{ ${line} }` : `{\n${rows.join("\n")}\n${pad}}`;
  }
  return [it.type ?? "anything"].flat().join(" or ");
}

function schemaBlock(media, content) {
  const part = make("div", "media");
  part.append(make("p", "hint", media));
  if (content.schema && Object.keys(content.schema).length) {
    const block = make("pre", "schema", outlined(content.schema));
    block.tabIndex = 0;
    part.append(block);
  }
  return part;
}

function described(list, rows) {
  for (const [term, text] of rows) list.append(make("dt", "", term), make("dd", "", text));
  return list;
}

// `words` in code's letters.
function prose(text) {
  const part = make("p");
  text.split("`").forEach((words, i) => part.append(i % 2 ? make("code", "", words) : words));
  return part;
}

function operation(method, path, said) {
  const whole = make("details", "operation");
  whole.id = said.operationId;
  const summary = make("summary");
  summary.append(make("span", `method ${method}`, method.toUpperCase()), make("span", "path", path), make("span", "said", said.summary));
  whole.append(summary);
  whole.addEventListener("toggle", () => whole.open && whole.children.length === 1 && whole.append(body(method, path, said)));
  return whole;
}

function body(method, path, said) {
  const inner = make("div");
  if (said.description) inner.append(prose(said.description));
  const parameters = said.parameters ?? [];
  if (parameters.length) {
    const rows = parameters.map((it) => [it.name, `${it.in}${it.required ? ", required" : ""}. ${it.description}`]);
    inner.append(make("h3", "", "Parameters"), described(make("dl"), rows));
  }
  const takes = Object.entries(said.requestBody?.content ?? {});
  if (takes.length) inner.append(make("h3", "", "Body"), ...takes.map(([media, content]) => schemaBlock(media, content)));
  inner.append(make("h3", "", "Answers"));
  inner.append(described(make("dl"), Object.entries(said.responses).map(([status, { description }]) => [status, description])));
  const good = Object.entries(said.responses).find(([status]) => status.startsWith("2"))?.[1];
  for (const [media, content] of Object.entries(good?.content ?? {})) inner.append(schemaBlock(media, content));
  inner.append(attempt(method, path, said));
  return inner;
}

// Trying it

function field(parameter, form, prefix) {
  const label = make("label", "", parameter.name);
  label.append(" ", make("small", "", parameter.in));
  const input = make("input");
  input.id = `${prefix}-${parameter.name}`;
  label.htmlFor = input.id;
  if (parameter.in === "path") input.value = parameter.example ?? "";
  input.required = parameter.required;
  const part = make("div");
  part.append(label, input);
  form.append(part);
  return { parameter, input };
}

function bodyField(said, form, prefix) {
  const content = said.requestBody?.content;
  if (!content) return () => ({});
  const select = make("select");
  select.id = `${prefix}-media`;
  select.append(...Object.keys(content).map((media) => make("option", "", media)));
  const label = make("label", "", "Body");
  label.htmlFor = select.id;
  const area = make("textarea", "code");
  area.rows = 8;
  area.spellcheck = false;
  area.setAttribute("aria-label", "Body");
  const file = make("input");
  file.type = "file";
  file.setAttribute("aria-label", "File");
  const change = () => {
    const binary = !/json|text|csv/.test(select.value);
    const { example } = content[select.value];
    area.hidden = binary;
    file.hidden = !binary;
    area.value = example === undefined ? "" : typeof example === "string" ? example : JSON.stringify(example);
  };
  select.addEventListener("change", change);
  change();
  const part = make("div");
  part.append(label, select);
  form.append(part, area, file);
  return () => given(select.value, area, file, content[select.value].schema);
}

function given(media, area, file, schema) {
  if (!area.hidden) return { body: area.value, headers: { "content-type": media } };
  const [chosen] = file.files;
  if (media !== "multipart/form-data") {
    const type = media.includes("*") ? chosen?.type || "application/octet-stream" : media;
    return { body: chosen, headers: { "content-type": type } };
  }
  const form = new FormData();
  const name = Object.keys(resolved(schema)?.properties ?? { file: 0 })[0];
  if (chosen) form.append(name, chosen);
  return { body: form };
}

function attempt(method, path, said) {
  const form = make("form", "try");
  form.append(make("h3", "", "Try it"));
  const inputs = make("div", "fields");
  if (said.parameters?.length) form.append(inputs);
  const fields = (said.parameters ?? []).map((parameter) => field(parameter, inputs, said.operationId));
  const read = bodyField(said, form, said.operationId);
  const buttons = make("div", "buttons");
  const send = make("button", "", "Send");
  buttons.append(send);
  const live = make("div");
  live.setAttribute("aria-live", "polite");
  form.append(buttons, live);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    live.replaceChildren(make("p", "hint", "…"));
    live.replaceChildren(...(await outcome(method, path, fields, read())));
  });
  return form;
}

async function outcome(method, path, fields, request) {
  let url = path.slice(1);
  const query = new URLSearchParams();
  const headers = { ...request.headers };
  for (const { parameter, input } of fields) {
    if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value === "") continue;
    else if (parameter.in === "query") query.append(parameter.name, input.value);
    else headers[parameter.name] = input.value;
  }
  const asked = query.size ? `${url}?${query}` : url;
  try {
    const answer = await ask(asked || "./", { method: method.toUpperCase(), ...request, headers });
    const text = typeof answer.value === "string" ? answer.value : JSON.stringify(answer.value, null, 2);
    const shown = make("pre", "", text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)} …` : text);
    shown.tabIndex = 0;
    return [make("p", "hint", `${milliseconds(answer.trip)} ms`), shown];
  } catch (error) {
    return [make("p", "error", error.message)];
  }
}

function group(tag) {
  const section = make("section");
  section.id = slug(tag.name);
  section.append(make("h2", "", tag.name), make("p", "", tag.description));
  for (const [path, item] of Object.entries(document_.paths)) {
    for (const [method, said] of Object.entries(item)) {
      if (said.tags[0] === tag.name) section.append(operation(method, path, said));
    }
  }
  return section;
}

async function start() {
  const { value } = await ask("openapi.json");
  document_ = value;
  document.title = value.info.title;
  get("title").textContent = value.info.title;
  get("about").textContent = value.info.description;
  get("key-form").hidden = !value.security;
  get("contents").append(
    ...value.tags.map(({ name }) => {
      const link = make("a", "", name);
      link.href = `#${slug(name)}`;
      return link;
    }),
  );
  get("groups").append(...value.tags.map(group));
}

get("key-form").addEventListener("submit", (event) => event.preventDefault());
get("key").addEventListener("change", (event) => useKey(event.target.value));
start().catch((error) => {
  get("error").textContent = error.message;
  get("error").hidden = false;
});
