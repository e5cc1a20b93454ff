'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { afterEach, beforeEach, test } = require('node:test');

const ALL = 'tfjs,onnx,saved_model,tflite';
const ROOT = path.join(__dirname, '..');
let folder;
let log;

// A program that writes down its arguments and ends as it is told by the environment.
const RECORDER = `#!${process.execPath}
const fs = require('fs');
fs.appendFileSync(process.env.RECORDED, JSON.stringify(process.argv.slice(2)) + '\\n');
if (process.argv[2] !== '--version' && process.env.END_WITH) {
  process.stderr.write('artifact onnx: output "scores" differs by 0.2\\n');
  process.exit(Number(process.env.END_WITH));
}
`;

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pipcook-artifact-'));
  log = path.join(folder, 'recorded');
  fs.mkdirSync(path.join(folder, 'bin'));
  fs.writeFileSync(path.join(folder, 'bin', 'pipcook-deploy'), RECORDER, { mode: 0o755 });
  process.env.RECORDED = log;
});

afterEach(() => {
  delete process.env.END_WITH;
  delete process.env.RECORDED;
  fs.rmSync(folder, { recursive: true });
});

function recorded() {
  return fs.readFileSync(log, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
}

/** What Pipcook 2 does with the `artifact` list: import, initialize with the entry, train, build. */
async function pipcook(entry, modelDir) {
  const plugin = await import(path.join(ROOT, 'index.js'));
  assert.strictEqual(typeof plugin.initialize, 'function');
  assert.strictEqual(typeof plugin.build, 'function');
  await plugin.initialize(entry);
  await plugin.build(modelDir, entry);
}

async function withPath(work) {
  const before = process.env.PATH;
  process.env.PATH = path.join(folder, 'bin') + path.delimiter + before;
  try {
    return await work();
  } finally {
    process.env.PATH = before;
  }
}

test('one line of JSON calls the command line on the trained model', async () => {
  const entry = { processor: 'pipcook-artifact-deploy@0.1.0', target: path.join(folder, 'b') };
  await withPath(() => pipcook(entry, path.join(folder, 'model')));
  assert.deepStrictEqual(recorded(), [
    ['--version'],
    ['convert', path.join(folder, 'model'), '--to', ALL, '--out', path.join(folder, 'b')],
  ]);
});

test('every key reaches the command line as one argument, whatever is in it', async () => {
  const nasty = 'a "b"; $(touch x)';
  const entry = {
    target: path.join(folder, nasty),
    formats: ['tfjs', 'onnx'],
    name: nasty,
    version: '2',
    samples: path.join(folder, 's'),
    set: { 'onnx.opset': 18 },
  };
  await withPath(() => pipcook(entry, folder));
  assert.deepStrictEqual(recorded()[1], [
    'convert', folder, '--to', 'tfjs,onnx', '--out', path.join(folder, nasty), '--name', nasty,
    '--version', '2', '--samples', path.join(folder, 's'), '--set', 'onnx.opset=18',
  ]);
  assert.strictEqual(fs.existsSync('x'), false);
});

test('a recipe is run on the trained model, with what else the entry says', async () => {
  const recipe = path.join(folder, 'deploy.toml');
  const entry = { recipe, version: '2', set: { 'tfjs.kind': 'layers' } };
  await withPath(() => pipcook(entry, folder));
  assert.deepStrictEqual(recorded()[1], [
    'run', recipe, '--set', `model.source="${folder}"`, '--set', 'model.version="2"',
    '--set', 'tfjs.kind="layers"',
  ]);
});

test('relative paths start where Pipcook was started', async () => {
  await withPath(() => pipcook({ target: 'bundle' }, 'model'));
  assert.deepStrictEqual(recorded()[1], [
    'convert', path.resolve('model'), '--to', ALL, '--out', path.resolve('bundle'),
  ]);
});

test('a failure carries the message and the exit code', async () => {
  process.env.END_WITH = '5';
  await assert.rejects(
    withPath(() => pipcook({ target: 'bundle' }, folder)),
    (error) => error.exitCode === 5 && /exit code 5[^]*differs by 0\.2/.test(error.message)
  );
});

test('a missing command line is found before the training', async () => {
  const plugin = require('..');
  await assert.rejects(
    plugin.initialize({ target: 'bundle', command: path.join(folder, 'nowhere') }),
    /no program ".*nowhere"\nrun: pip install/
  );
});

test('a command may have arguments of its own', async () => {
  const script = path.join(folder, 'bin', 'pipcook-deploy');
  await pipcook({ target: folder, command: [process.execPath, script, '--quiet'] }, folder);
  assert.strictEqual(recorded()[1][0], '--quiet');
});

test('all mistakes of the entry are told at once', async () => {
  const plugin = require('..');
  await assert.rejects(plugin.initialize({ formatt: 'onnx', name: 3, set: { a: [] } }), (error) => {
    assert.ok(error instanceof TypeError);
    for (const part of [/"formatt"/, /"name" cannot be 3/, /"set"/, /"target"/]) {
      assert.match(error.message, part);
    }
    return true;
  });
});

const REAL = process.env.TEST_PIPCOOK_DEPLOY;

test('the real command line makes a bundle of a Pipcook model folder', { skip: !REAL }, async () => {
  const target = path.join(folder, 'bundle');
  const model = path.join(ROOT, '..', '..', 'examples', 'fashion-mnist', 'workspace', 'model');
  await pipcook({ target, formats: 'onnx', name: 'from-pipcook', command: REAL }, model);
  const manifest = JSON.parse(fs.readFileSync(path.join(target, 'manifest.json'), 'utf8'));
  assert.match(JSON.stringify(manifest), /from-pipcook/);
});

test('the real command line refuses a folder without a model', { skip: !REAL }, async () => {
  await assert.rejects(
    pipcook({ target: path.join(folder, 'bundle'), command: REAL }, folder),
    (error) => error.exitCode === 3
  );
  assert.strictEqual(fs.existsSync(path.join(folder, 'bundle')), false);
});
