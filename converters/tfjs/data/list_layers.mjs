// Writes tfjs_layers.json: the layer and activation classes that TF.js registers under a name.
// Run after an update of TF.js:  node list_layers.mjs NODE_MODULES > tfjs_layers.json
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

const root = resolve(process.argv[2] ?? 'node_modules');
const require = createRequire(join(root, 'package.json'));
console.warn = () => {};
const tf = require('@tensorflow/tfjs');
const classes = Object.entries(tf.serialization.SerializationMap.getMap().classNameMap);
const Activation = Object.getPrototypeOf(classes.find(([name]) => name === 'relu')[1][0]);
const named = (base) => classes
  .filter(([, [found]]) => found.prototype instanceof base).map(([name]) => name).sort();

console.log(JSON.stringify({
  tfjs: tf.version['tfjs-layers'], layers: named(tf.layers.Layer), activations: named(Activation),
}, null, 1));
