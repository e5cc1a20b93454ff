'use strict';

const path = require('path');
const { spawn } = require('child_process');

// Keys of the artifact step's entry, and whether a value fits. `processor` is Pipcook's own.
const KEYS = {
  processor: isText,
  target: isText,
  formats: (value) => isText(value) || isTexts(value),
  recipe: isText,
  name: isText,
  version: isText,
  samples: isText,
  set: (value) => isObject(value) && Object.values(value).every(isScalar),
  command: (value) => isText(value) || (isTexts(value) && value.length > 0),
};

const FORMATS = ['tfjs', 'onnx', 'saved_model', 'tflite'];

function isText(value) {
  return typeof value === 'string' && value !== '';
}

function isTexts(value) {
  return Array.isArray(value) && value.every(isText);
}

function isScalar(value) {
  return ['string', 'number', 'boolean'].includes(typeof value);
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Throws a TypeError that names every mistake in the artifact step's entry. */
function check(options) {
  const mistakes = [];
  for (const [key, value] of Object.entries(options)) {
    if (!(key in KEYS)) {
      mistakes.push(`unknown key "${key}" (known: ${Object.keys(KEYS).join(', ')})`);
    } else if (!KEYS[key](value)) {
      mistakes.push(`"${key}" cannot be ${JSON.stringify(value)}`);
    }
  }
  if (!options.target && !options.recipe) {
    mistakes.push('"target", the folder of the bundle, is missing');
  }
  if (options.recipe && options.formats) {
    mistakes.push('"formats" and "recipe" exclude each other: the recipe has its [convert] tables');
  }
  if (mistakes.length > 0) {
    throw new TypeError(`pipcook-artifact-deploy: ${mistakes.join('; ')}`);
  }
}

/** The program and the arguments that go before all others. */
function program(options) {
  const command = options.command || process.env.PIPCOOK_DEPLOY || 'pipcook-deploy';
  return Array.isArray(command) ? command : [command];
}

/** Arguments of the command line; relative paths start where Pipcook was started. */
function argumentsFor(modelDir, options) {
  return options.recipe ? recipeArguments(modelDir, options) : convertArguments(modelDir, options);
}

/** `run RECIPE` with the trained model, and whatever else is given, in place of what the recipe says. */
function recipeArguments(modelDir, options) {
  const given = {
    'model.source': path.resolve(modelDir),
    'model.name': options.name,
    'model.version': options.version,
    'samples.path': options.samples && path.resolve(options.samples),
    'bundle.out': options.target && path.resolve(options.target),
    ...options.set,
  };
  return ['run', path.resolve(options.recipe), ...settings(given)];
}

function convertArguments(modelDir, options) {
  const formats = [].concat(options.formats || FORMATS).join(',');
  const made = ['convert', path.resolve(modelDir), '--to', formats];
  const given = {
    '--out': path.resolve(options.target),
    '--name': options.name,
    '--version': options.version,
    '--samples': options.samples && path.resolve(options.samples),
  };
  for (const [flag, value] of Object.entries(given)) {
    if (value !== undefined) {
      made.push(flag, value);
    }
  }
  return [...made, ...settings(options.set || {})];
}

/** `--set KEY=VALUE`, each value as TOML: JSON's strings, numbers and booleans are. */
function settings(values) {
  return Object.entries(values)
    .filter(([, value]) => value !== undefined)
    .flatMap(([key, value]) => ['--set', `${key}=${JSON.stringify(value)}`]);
}

/**
 * Runs `command` with its output passed through; no shell reads it.
 * Rejects with what it said last and `exitCode` when it fails.
 */
function run(command, { quiet = false } = {}) {
  const [file, ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stdout.on('data', (text) => quiet || process.stdout.write(text));
    child.stderr.on('data', (text) => {
      said = (said + text).slice(-4000);
      if (!quiet) {
        process.stderr.write(text);
      }
    });
    child.on('error', (error) => reject(notStarted(file, error)));
    child.on('close', (code, signal) =>
      code === 0 ? resolve() : reject(failed(file, code, signal, said))
    );
  });
}

function notStarted(file, error) {
  if (error.code !== 'ENOENT') {
    return error;
  }
  return Object.assign(
    new Error(
      `pipcook-artifact-deploy: there is no program "${file}"\n` +
        `run: pip install 'pipcook-deploy[tensorflow]', or name it in the artifact's "command"`
    ),
    { code: 'ENOENT' }
  );
}

function failed(file, code, signal, said) {
  const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
  return Object.assign(new Error(`${file} ${how}\n${said.trim()}`.trim()), {
    exitCode: code,
    signal,
  });
}

module.exports = { argumentsFor, check, program, run };
