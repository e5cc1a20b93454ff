// Runs a TF.js model that lies on disk: node run.mjs PACKAGES REQUEST RESPONSE
//
// PACKAGES is the folder whose node_modules has TF.js. REQUEST names the model.json, the backend, the
// inputs and the wanted outputs; tensors are raw little-endian files, texts are JSON lists. RESPONSE gets
// the outputs, or {error: {stage, message}} with TF.js' own message. Exit code 0 in both cases.

import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
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

function toTensor(tf, { file, dtype, shape }) {
  if (dtype === 'string') return tf.tensor(readJson(file), shape, 'string');
  return tf.tensor(new ARRAYS[dtype](readBuffer(file)), shape, dtype);
}

function save(tensor, name, file) {
  const { dtype, shape } = tensor;
  const values = tensor.dataSync();
  if (dtype === 'string') writeFileSync(file, JSON.stringify(Array.from(values)));
  else if (!(dtype in ARRAYS)) throw new Error(`output ${name} has the dtype ${dtype}`);
  else writeFileSync(file, Buffer.from(values.buffer, values.byteOffset, values.byteLength));
  return { name, file, dtype, shape };
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

async function runBatches(tf, request, runner) {
  const tensors = request.inputs.map((row) => toTensor(tf, row));
  const count = request.samples;
  const parts = request.outputs.map(() => []);
  for (let start = 0; start < count; start += request.batch) {
    const size = Math.min(request.batch, count - start);
    const fed = size === count ? tensors : tensors.map((t) => tf.slice(t, start, size));
    const answers = await runner(fed);
    answers.forEach((tensor, index) => parts[index].push(tensor));
  }
  return parts.map((rows) => (rows.length === 1 ? rows[0] : tf.concat(rows, 0)));
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
  const outputs = await runBatches(tf, request, runner);
  return outputs.map((tensor, index) =>
    save(tensor, request.outputs[index], `${responseFile}.${index}`));
}

console.warn = () => {}; // the advice to install tfjs-node
let response;
try {
  response = { outputs: await main(readJson(requestFile)) };
} catch (error) {
  response = { error: { stage, message: String(error?.message ?? error) } };
}
writeFileSync(responseFile, JSON.stringify(response));
process.exit(0);
