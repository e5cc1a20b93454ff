"""Train a small text classifier on the SpamAssassin mails, and write the recipe that deploys it.

    python prepare.py package/data
    python train.py [--data FOLDER] [--epochs 12]

The preprocessing is declared, not coded: the recipe's `tokenize` and `pad`, vocabulary included, are what this
script itself trains with, and what is served.
"""

import argparse
import csv
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from mails import LABELS

from pipcook_deploy.preprocess.execute import prepare_batch
from pipcook_deploy.preprocess.operations import Operation, Pad, Tokenize
from pipcook_deploy.preprocess.tokens import split

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "dist" / "data" / "spam"
WORDS = 3000
LENGTH = 256
BATCH = 32

Array = np.ndarray[Any, Any]


def load(path: Path) -> tuple[list[str], Array]:
    """Texts and positions of their labels. Exits with what to do when the file is not there."""
    if not path.is_file():
        raise SystemExit(f"{path}: does not exist\nrun: python prepare.py package/data")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array([LABELS.index(row["label"]) for row in rows])


def vocabulary(texts: list[str]) -> tuple[str, ...]:
    """The words that most mails have, the most frequent first; of equals in alphabetical order.

    A word of one mail only, or of more than 20 characters, is more often an address than a word.
    """
    operation = Tokenize(vocabulary=())
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word in set(split(operation, text)) if len(word) <= 20)
    ranked = sorted((-count, word) for word, count in counts.items() if count > 1)
    return tuple(word for _, word in ranked[:WORDS])


def preprocessing(words: tuple[str, ...]) -> tuple[Operation, ...]:
    """A text as int32 [LENGTH]: 0 is padding, 1 an unknown word."""
    return (Tokenize(vocabulary=words), Pad(length=LENGTH))


def build(words: int) -> keras.Model:
    """int32 [n, LENGTH] -> 2 probabilities: does a run of three words look like spam, do the runs on average?"""
    layers = keras.layers
    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    x = layers.Embedding(words + 2, 16, name="words")(ids)
    x = layers.Dropout(0.5, name="dropout_words")(x)
    x = layers.Conv1D(32, 3, activation="relu", name="runs")(x)
    strongest = layers.GlobalMaxPooling1D(name="strongest")(x)
    average = layers.GlobalAveragePooling1D(name="average")(x)
    x = layers.Concatenate(name="both")([strongest, average])
    x = layers.Dropout(0.5, name="dropout_runs")(x)
    probabilities = layers.Dense(len(LABELS), activation="softmax", name="probabilities")(x)
    return keras.Model(ids, probabilities, name="spam")


def train(ids: Array, labels: Array, words: int, epochs: int) -> keras.Model:
    """Adam with cosine decay."""
    keras.utils.set_random_seed(0)
    model = build(words)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, epochs * -(-len(ids) // BATCH))
    model.compile(
        keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(ids, labels, batch_size=BATCH, epochs=epochs, verbose=2)
    return model


def evaluate(model: keras.Model, ids: Array, labels: Array) -> dict[str, float]:
    """Accuracy over all mails, and how many they are."""
    answers = model.predict(ids, batch_size=500, verbose=0).argmax(axis=-1)
    return {"accuracy": round(float((answers == labels).mean()), 4), "mails": len(labels)}


def write_recipe(words: tuple[str, ...], metrics: dict[str, float]) -> None:
    """`deploy.toml` from `deploy.toml.in`: everything in it but the vocabulary and the result is written by hand."""
    recipe = (HERE / "deploy.toml.in").read_text(encoding="utf-8")
    result = ", ".join(f"{name} = {value}" for name, value in metrics.items())
    # A TOML string is quoted as JSON quotes it, once DEL is escaped too.
    listed = json.dumps(words, ensure_ascii=False).replace("\x7f", "\\u007f")
    recipe = recipe.replace("@METRICS@", f"{{ {result} }}").replace("@VOCABULARY@", listed)
    (HERE / "deploy.toml").write_text(recipe, encoding="utf-8")


def main() -> None:
    """Train, save `model.keras` and `metrics.json`, and write the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="what prepare.py wrote")
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()

    texts, labels = load(arguments.data / "train.csv")
    words = vocabulary(texts)
    operations = preprocessing(words)
    model = train(prepare_batch(operations, texts), labels, len(words), arguments.epochs)
    texts, labels = load(arguments.data / "evaluation.csv")
    metrics = evaluate(model, prepare_batch(operations, texts), labels)
    print(f"{model.count_params():,} parameters, {metrics}")
    keras.Model(model.inputs, model.outputs, name=model.name).save(HERE / "model.keras")
    (HERE / "metrics.json").write_text(json.dumps(metrics) + "\n")
    write_recipe(words, metrics)


if __name__ == "__main__":
    main()
