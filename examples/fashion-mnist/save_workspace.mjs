// node save_workspace.mjs NODE_MODULES DRAFT INTO: has TF.js load the layers-model in DRAFT, save it to INTO as Pipcook does
// (model.json beside one weights.bin), load that again and write its answers for DRAFT/images to DRAFT/answers.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [packages, draft, into] = process.argv.slice(2);
const require = createRequire(path.join(packages, "index.js"));
const tf = require("@tensorflow/tfjs");

const SIDE = 28;

function reader(folder) {
  return {
    load: async () => {
      const model = JSON.parse(fs.readFileSync(path.join(folder, "model.json"), "utf8"));
      const bytes = fs.readFileSync(path.join(folder, "weights.bin"));
      return {
        modelTopology: model.modelTopology,
        weightSpecs: model.weightsManifest[0].weights,
        weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length),
      };
    },
  };
}

// The keys that tfjs-node's file handler writes, in its order.
function writer(folder) {
  return {
    save: async (artifacts) => {
      const { modelTopology, weightSpecs, weightData, format, generatedBy, convertedBy } = artifacts;
      const manifest = [{ paths: ["weights.bin"], weights: weightSpecs }];
      const model = { modelTopology, weightsManifest: manifest, format, generatedBy, convertedBy };
      fs.writeFileSync(path.join(folder, "weights.bin"), Buffer.from(weightData));
      fs.writeFileSync(path.join(folder, "model.json"), JSON.stringify(model));
      return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: "JSON" } };
    },
  };
}

await tf.setBackend("cpu");
await (await tf.loadLayersModel(reader(draft))).save(writer(into));

const model = await tf.loadLayersModel(reader(into));
const bytes = fs.readFileSync(path.join(draft, "images"));
const pixels = new Float32Array(new Uint8Array(bytes).buffer);
const answers = model.predict(tf.tensor(pixels, [pixels.length / (SIDE * SIDE * 3), SIDE, SIDE, 3]));
fs.writeFileSync(path.join(draft, "answers"), Buffer.from((await answers.data()).buffer));
