// Makes models with TF.js itself: node tfjs_models.mjs PACKAGES OUT
//
// OUT/<name>/ gets model.json and weights.bin, as tf.LayersModel.save writes them, and inputs.json and
// outputs.json: [{name, dtype, shape, values}] in the model's own order.

import { createRequire } from 'node:module';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const [packages, out] = process.argv.slice(2);
console.warn = () => {};
const tf = createRequire(path.join(packages, 'package.json'))('@tensorflow/tfjs');
await tf.setBackend('cpu');

const { layers } = tf;
let seed = 1;
const glorot = () => tf.initializers.glorotUniform({ seed: seed++ });
const uniform = () => tf.initializers.randomUniform({ minval: 0.5, maxval: 1.5, seed: seed++ });
const weights = () => ({ kernelInitializer: glorot(), biasInitializer: uniform() });
const statistics = () => ({
  betaInitializer: uniform(), gammaInitializer: uniform(),
  movingMeanInitializer: uniform(), movingVarianceInitializer: uniform(),
});

function convolutions(size = 16) {
  return [
    layers.conv2d({ inputShape: [size, size, 3], filters: 4, kernelSize: 3, strides: 2, ...weights() }),
    layers.batchNormalization(statistics()),
    layers.reLU({ maxValue: 6 }),
    layers.depthwiseConv2d({ kernelSize: 3, depthwiseInitializer: glorot(), padding: 'same' }),
    layers.leakyReLU({ alpha: 0.1 }),
    layers.separableConv2d({
      filters: 6, kernelSize: 3, depthwiseInitializer: glorot(), pointwiseInitializer: glorot(),
    }),
    layers.activation({ activation: 'hardSigmoid' }),
    layers.maxPooling2d({ poolSize: 2 }),
  ];
}

const models = {
  convolutions: () => tf.sequential({
    layers: [...convolutions(), layers.flatten(), layers.dense({ units: 3, activation: 'softmax', ...weights() })],
  }),
  // What Pipcook's image classification trains: a nested model in a Sequential.
  nested: () => {
    const input = tf.input({ shape: [16, 16, 3] });
    const inner = tf.model({
      inputs: input,
      outputs: convolutions().reduce((x, layer) => layer.apply(x), input),
      name: 'backbone',
    });
    return tf.sequential({
      layers: [
        layers.inputLayer({ inputShape: [16, 16, 3] }), inner, layers.flatten(),
        layers.dense({ units: 10, activation: 'relu', ...weights() }),
        layers.dense({ units: 4, activation: 'softmax', ...weights() }),
      ],
    });
  },
  text: () => tf.sequential({
    layers: [
      layers.embedding({ inputDim: 20, outputDim: 6, inputLength: 8, embeddingsInitializer: glorot() }),
      layers.lstm({ units: 5, returnSequences: true, ...weights() }),
      layers.bidirectional({ layer: layers.gru({ units: 4, ...weights() }), mergeMode: 'concat' }),
      layers.dropout({ rate: 0.5 }),
      layers.dense({ units: 2, activation: 'softmax', ...weights() }),
    ],
  }),
  several: () => {
    const a = tf.input({ shape: [4], name: 'a' });
    const b = tf.input({ shape: [3], name: 'b' });
    const shared = layers.dense({ units: 5, activation: 'elu', name: 'shared', ...weights() });
    const left = shared.apply(a);
    const right = shared.apply(layers.dense({ units: 4, activation: 'tanh', ...weights() }).apply(b));
    const sum = layers.add().apply([left, right]);
    const both = layers.concatenate().apply([left, right, sum]);
    return tf.model({
      inputs: [b, a],
      outputs: [
        layers.dense({ units: 2, name: 'score', ...weights() }).apply(both),
        layers.layerNormalization({ name: 'normal' }).apply(sum),
      ],
    });
  },
};

function describe(name, tensor) {
  return { name, dtype: tensor.dtype, shape: tensor.shape, values: Array.from(tensor.dataSync()) };
}

for (const [name, make] of Object.entries(models)) {
  const model = make();
  const folder = path.join(out, name);
  mkdirSync(folder, { recursive: true });
  const inputs = model.inputs.map(({ shape }) => {
    const full = [3, ...shape.slice(1)];
    return name === 'text'
      ? tf.randomUniform(full, 0, 20, 'int32', seed++) : tf.randomUniform(full, -1, 1, 'float32', seed++);
  });
  const answer = model.predict(inputs);
  const outputs = Array.isArray(answer) ? answer : [answer];
  const rows = (tensors, names) => JSON.stringify(tensors.map((t, i) => describe(names[i], t)));
  writeFileSync(path.join(folder, 'inputs.json'), rows(inputs, model.inputNames));
  writeFileSync(path.join(folder, 'outputs.json'), rows(outputs, model.outputNames));
  await model.save(tf.io.withSaveHandler(async (artifacts) => {
    const { modelTopology, weightSpecs, weightData, format, generatedBy, convertedBy } = artifacts;
    const weightsManifest = [{ paths: ['weights.bin'], weights: weightSpecs }];
    const json = { modelTopology, format, generatedBy, convertedBy, weightsManifest };
    writeFileSync(path.join(folder, 'model.json'), JSON.stringify(json));
    writeFileSync(path.join(folder, 'weights.bin'), Buffer.from(weightData));
    return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } };
  }));
}
process.exit(0);
