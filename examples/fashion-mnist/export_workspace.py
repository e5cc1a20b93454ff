"""Write the trained model as the workspace that Pipcook 2 leaves behind, and its test images as PNG.

    python export_workspace.py [--data FOLDER]

Reads `model.keras`; writes `workspace/` and `samples/`. TensorFlow.js itself saves the model, as it does in
a Pipcook pipeline, and the saved model must give the Keras model's answers.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import keras
import numpy as np
from dataset import INSTALLED, LABELS, Array, as_rgb, load
from PIL import Image
from train import HERE, build

from pipcook_deploy.tools import node_packages

TOLERANCE = 1e-5  # TF.js and TensorFlow sum in another order
EACH = 20  # samples a label
SCRIPTS = (
    "https://cdn.jsdelivr.net/gh/imgcook/pipcook-script@235497d/scripts/image-classification/build"
)
SAVER = HERE / "save_workspace.mjs"


def pipeline() -> dict[str, object]:
    """The pipeline's JSON: Pipcook's own image scripts at 28x28, the model trained elsewhere."""
    return {
        "specVersion": "2.0",
        "type": "ImageClassification",
        "datasource": f"{SCRIPTS}/datasource.js?url=file:///data/fashion-mnist.zip",
        "dataflow": [f"{SCRIPTS}/dataflow.js?size=28&size=28"],
        "model": f"{SCRIPTS}/model.js",
        "artifact": [{"processor": "pipcook-artifact-deploy@0.1.0", "target": "./bundle"}],
        "options": {"framework": "tfjs@3.8", "train": {"epochs": 12, "batchSize": 128}},
    }


def draft(model: keras.Model, folder: Path) -> None:
    """`model` as a layers-model that TF.js reads: Keras 2 topology, weights one after the other."""
    import tf_keras

    twin = build(tf_keras)
    for layer in twin.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    weights = [(w.name.split(":")[0], w.numpy()) for w in twin.weights]
    (folder / "weights.bin").write_bytes(b"".join(w.astype("<f4").tobytes() for _, w in weights))
    specs = [{"name": name, "shape": w.shape, "dtype": "float32"} for name, w in weights]
    content = {
        "format": "layers-model",
        "modelTopology": {"model_config": json.loads(twin.to_json())},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": specs}],
    }
    (folder / "model.json").write_text(json.dumps(content))


def save(model: keras.Model, images: Array, into: Path) -> float:
    """Have TF.js save `model` below `into`; the largest difference of its answers for `images`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draft(model, folder)
        (folder / "images").write_bytes(as_rgb(images).astype("<f4").tobytes())
        packages = node_packages() / "node_modules"
        subprocess.run(["node", str(SAVER), str(packages), str(folder), str(into)], check=True)
        answers = np.frombuffer((folder / "answers").read_bytes(), "<f4").reshape(len(images), -1)
    return float(np.abs(answers - model.predict(as_rgb(images), verbose=0)).max())


def write_samples(images: Array, labels: Array, into: Path) -> Array:
    """The first images of each label as `into/<label>/<place in the test set>.png`; those places."""
    shutil.rmtree(into, ignore_errors=True)
    chosen = np.concatenate([np.flatnonzero(labels == i)[:EACH] for i in range(len(LABELS))])
    for place in chosen:
        folder = into / LABELS[labels[place]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[place]).save(folder / f"{place:04d}.png", optimize=True)
    return chosen


def main() -> None:
    """Samples, model, labels, pipeline."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=INSTALLED, help="a folder of idx files")
    images, labels = load("t10k", parser.parse_args().data)
    chosen = write_samples(images, labels, HERE / "samples")

    folder = HERE / "workspace" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    difference = save(keras.models.load_model(HERE / "model.keras"), images[chosen], folder)
    if not difference <= TOLERANCE:
        raise SystemExit(f"the TF.js model differs from the Keras model by {difference}")
    print(f"{len(chosen)} images: largest difference {difference:.1e}")

    (folder / "categories.json").write_text(json.dumps(LABELS))
    for path in (folder / "pipeline.json", HERE / "workspace" / "fashion-mnist.json"):
        path.write_text(json.dumps(pipeline(), indent=2) + "\n")


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    main()
