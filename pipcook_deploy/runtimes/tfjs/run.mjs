// Runs a TF.js model that lies on disk: node run.mjs PACKAGES REQUEST RESPONSE
//
// PACKAGES is the folder whose node_modules has TF.js. REQUEST names the model.json, the backend, the
// inputs and the wanted outputs; tensors are raw little-endian files, read and written batch by batch, texts are
// JSON lists. With `timing` ({warmUp, seconds, calls}) the first batch is answered again and again instead.
// RESPONSE gets the outputs or the milliseconds of every call, or {error: {stage, message}} with TF.js' own
// message. Exit code 0 in both cases.

import { createRequire } from 'node:module';
import { closeSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';

const ARRAYS = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };
const [packages, requestFile, responseFile] = process.argv.slice(2);
let stage = 'start';

function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8').replace(/^\uFEFF/, ''));
}

/** The file's bytes at an address that any typed array may start at. */
function readBuffer(file) {
  const bytes = readFileSync(file);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

function concatenate(buffers) {
  const whole = new Uint8Array(buffers.reduce((size, buffer) => size + buffer.byteLength, 0));
  let at = 0;
  for (const buffer of buffers) {
    whole.set(new Uint8Array(buffer), at);
    at += buffer.byteLength;
  }
  return whole.buffer;
}

/** An IOHandler over a folder; the shards are read in the manifest's order. */
function fromDisk(modelFile) {
  const folder = path.dirname(modelFile);
  const { weightsManifest, trainingConfig, ...rest } = readJson(modelFile);
  const shards = weightsManifest.flatMap((group) => group.paths);
  return {
    load: async () => ({
      ...rest,
      weightSpecs: weightsManifest.flatMap((group) => group.weights),
      weightData: concatenate(shards.map((name) => readBuffer(path.join(folder, name)))),
    }),
  };
}

async function startBackend(tf, require, name) {
  if (name === 'wasm') {
    const wasm = require('@tensorflow/tfjs-backend-wasm');
    tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false); // no workers: one process, the same sums each time
    const entry = require.resolve('@tensorflow/tfjs-backend-wasm');
    wasm.setWasmPaths(path.dirname(entry) + path.sep);
  }
  if (!(await tf.setBackend(name))) throw new Error(`the backend ${name} could not be started`);
  await tf.ready();
}

/** Samples `start` to `start + size` of an input. */
function samples(tf, { file, dtype, shape }, start, size) {
  const wanted = [size, ...shape.slice(1)];
  const each = shape.slice(1).reduce((product, n) => product * n, 1);
  if (dtype === 'string') {
    return tf.tensor(readJson(file).slice(start * each, (start + size) * each), wanted, 'string');
  }
  const values = new ARRAYS[dtype](size * each);
  const bytes = new Uint8Array(values.buffer);
  const stream = openSync(file);
  let done = 0;
  while (done < bytes.length) {
    const got = readSync(stream, bytes, done, bytes.length - done, start * each * values.BYTES_PER_ELEMENT + done);
    if (got === 0) throw new Error(`${file} ends too early`);
    done += got;
  }
  closeSync(stream);
  return tf.tensor(values, wanted, dtype);
}

/** An output as it grows: numbers go to the file, texts are kept. */
class Answer {
  constructor(name, file) {
    Object.assign(this, { name, file, dtype: null, shape: null, texts: [] });
    this.stream = openSync(file, 'w');
  }

  add(tensor) {
    const { dtype, shape } = tensor;
    if (dtype !== 'string' && !(dtype in ARRAYS)) throw new Error(`output ${this.name} has the dtype ${dtype}`);
    if (this.shape === null) {
      Object.assign(this, { dtype, shape: [...shape] });
    } else {
      if (shape.length === 0 || shape.slice(1).join() !== this.shape.slice(1).join()) {
        throw new Error(`output ${this.name} has the shapes ${this.shape} and ${shape}`);
      }
      this.shape[0] += shape[0];
    }
    const values = tensor.dataSync();
    if (dtype === 'string') this.texts.push(...values);
    else writeSync(this.stream, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  end() {
    closeSync(this.stream);
    if (this.dtype === 'string') writeFileSync(this.file, JSON.stringify(this.texts));
    const { name, file, dtype, shape } = this;
    return { name, file, dtype, shape };
  }
}

/**
 * Pairs wanted names with the model's. By order only where names cannot tell: one tensor (TF.js may call a
 * Sequential's input otherwise than the file), or one name for several tensors.
 */
function pair(wanted, known, kind) {
  const unique = new Set(known).size === known.length;
  if (unique && wanted.every((name) => known.includes(name))) {
    return wanted.map((name) => known.indexOf(name));
  }
  if ((unique && known.length > 1) || wanted.length !== known.length) {
    throw new Error(`the model has the ${kind} ${known.join(', ')}, not ${wanted.join(', ')}`);
  }
  return wanted.map((_, index) => index);
}

function layersRunner(model, request) {
  // A Sequential that was loaded has no inputNames before its first prediction; its tensors are there.
  const names = (tensors) => tensors.map((tensor) => tensor.sourceLayer.name);
  const inputs = pair(request.inputs.map((row) => row.tensor), names(model.inputs), 'inputs');
  const outputs = pair(request.outputs, names(model.outputs), 'outputs');
  return async (tensors) => {
    const fed = [];
    inputs.forEach((place, index) => { fed[place] = tensors[index]; });
    const answer = model.predict(fed);
    const all = Array.isArray(answer) ? answer : [answer];
    return outputs.map((place) => all[place]);
  };
}

/** A name of a graph is a key of its signature (which TF.js resolves itself) or a node, with or without ':0'. */
function nodeName(entries, nodes, name, kind) {
  if (entries?.[name] !== undefined) return name;
  const bare = name.replace(/:0$/, '');
  const known = [...nodes, ...Object.values(entries ?? {}).map((row) => row.name.replace(/:0$/, ''))];
  if (kind === 'input' && !known.includes(bare)) {
    throw new Error(`the graph has the inputs ${nodes.join(', ')}, not ${name}`);
  }
  return bare;
}

function graphRunner(model, request) {
  const signature = model.modelSignature ?? {};
  const inputs = request.inputs.map((row) =>
    nodeName(signature.inputs, model.inputNodes, row.tensor, 'input'));
  const outputs = request.outputs.map((name) =>
    nodeName(signature.outputs, model.outputNodes, name, 'output'));
  return async (tensors) => {
    const fed = Object.fromEntries(inputs.map((name, index) => [name, tensors[index]]));
    let answer;
    try {
      answer = model.execute(fed, outputs);
    } catch (error) {
      if (!/dynamic op|executeAsync/.test(error.message)) throw error;
      answer = await model.executeAsync(fed, outputs);
    }
    return Array.isArray(answer) ? answer : [answer];
  };
}

/** Calls `use` with the answers to a batch, and frees every tensor that was made on the way. */
async function answered(tf, request, runner, start, size, use) {
  tf.engine().startScope();
  try {
    const fed = request.inputs.map((row) => samples(tf, row, start, size));
    use(await runner(fed));
  } finally {
    tf.engine().endScope();
  }
}

async function runBatches(tf, request, runner) {
  const rows = request.outputs.map((name, index) => new Answer(name, `${responseFile}.${index}`));
  for (let start = 0; start < request.samples; start += request.batch) {
    const size = Math.min(request.batch, request.samples - start);
    await answered(tf, request, runner, start, size, (answers) => {
      answers.forEach((tensor, index) => rows[index].add(tensor));
    });
  }
  return rows.map((row) => row.end());
}

/** The milliseconds of every call, each until its answers can be read. */
async function timeCalls(tf, request, runner) {
  const { warmUp, seconds, calls } = request.timing;
  const fed = request.inputs.map((row) => samples(tf, row, 0, request.samples));
  const one = async () => {
    tf.engine().startScope();
    const start = performance.now();
    (await runner(fed)).forEach((tensor) => tensor.dataSync());
    const time = performance.now() - start;
    tf.engine().endScope();
    return time;
  };
  const warm = performance.now() + 1000 * warmUp;
  do await one(); while (performance.now() < warm);
  const times = [];
  const end = performance.now() + 1000 * seconds;
  do times.push(await one()); while (times.length < calls && performance.now() < end);
  return times;
}

async function main(request) {
  const require = createRequire(path.join(packages, 'package.json'));
  const tf = require('@tensorflow/tfjs');
  tf.enableProdMode();
  await startBackend(tf, require, request.backend);
  stage = 'load';
  const graph = request.format === 'tfjs_graph';
  const handler = fromDisk(request.model);
  const model = await (graph ? tf.loadGraphModel(handler) : tf.loadLayersModel(handler));
  stage = 'run';
  const runner = (graph ? graphRunner : layersRunner)(model, request);
  if (request.timing) return { times: await timeCalls(tf, request, runner) };
  return { outputs: await runBatches(tf, request, runner) };
}

console.warn = () => {}; // the advice to install tfjs-node
let response;
try {
  response = await main(readJson(requestFile));
} catch (error) {
  response = { error: { stage, message: String(error?.message ?? error) } };
}
writeFileSync(responseFile, JSON.stringify(response));
process.exit(0);
