"""The spam example is what its README says, from a mail to a label."""

import csv
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from pipcook_deploy.preprocess.execute import prepare_batch
from pipcook_deploy.recipe import read_recipe
from pipcook_deploy.sources import load
from tests.examples.loading import EXAMPLES, example_module

HERE = EXAMPLES / "spam"

MAIL = """\
From: someone@example.com
Subject: =?utf-8?q?Claim_your_=E2=82=AC?=
MIME-Version: 1.0
Content-Type: text/html; charset=no-such-charset
Content-Transfer-Encoding: base64

PGI+RnJlZTwvYj4gbW9uZXk=
"""
HAM = "Re: [ILUG] kernel patch\nOn Mon, Linus wrote:\n> the patch applies to 2.4, see the mailing list\n"
SPAM = (
    "Make money fast\nClick here to order now! This is not spam. 100% free offer, no credit card needed. "
    "To be removed from our list, click below. http://www.example.com\n"
)


def test_subject_and_body_are_decoded_and_other_headers_left_out():
    assert example_module("spam", "mails").plain(MAIL) == "Claim your €\n<b>Free</b> money"


def test_copies_are_read_once_with_the_label_of_their_group(tmp_path: Path):
    mails = (("easy-ham-1", 1, "one text"), ("spam-1", 2, "win 5000"), ("spam-2", 3, "win 9999"))
    for group, number, text in mails:
        (tmp_path / group).mkdir()
        content = {"group": group, "text": f"Subject: s\n\n{text}"}
        (tmp_path / group / f"{number}.json").write_text(json.dumps(content))
    assert example_module("spam", "mails").read(tmp_path) == [
        ("s\none text", "ham"),
        ("s\nwin 5000", "spam"),
    ]


def test_absent_mails_say_what_to_do(tmp_path: Path):
    with pytest.raises(SystemExit, match="npm pack"):
        example_module("spam", "mails").read(tmp_path)


def test_train_and_evaluation_share_nothing_and_are_the_same_each_time(tmp_path: Path):
    prepare = example_module("spam", "prepare")
    rows = [(f'"quoted", line\nbreak {number}', "ham") for number in range(50)]
    parts = prepare.divide(rows, 20)
    assert parts == prepare.divide(rows[::-1], 20)
    assert len(parts["train"]) == 20
    assert sorted(parts["train"] + parts["evaluation"]) == sorted(rows)
    prepare.write(tmp_path / "train.csv", parts["train"])
    with (tmp_path / "train.csv").open(encoding="utf-8", newline="") as file:
        assert [(row["text"], row["label"]) for row in csv.DictReader(file)] == parts["train"]


def test_the_recipe_is_what_training_writes_from_its_template():
    recipe = read_recipe(HERE / "deploy.toml")
    tokenize, pad = recipe.model.preprocessing
    assert len(tokenize.vocabulary) == 3000
    assert (tokenize.first_id, tokenize.unknown_id, pad.length, pad.value) == (2, 1, 256, 0)
    template = (HERE / "deploy.toml.in").read_text()
    filled = template.replace("@METRICS@", "{}").replace("@VOCABULARY@", "[]")
    written = tomllib.loads((HERE / "deploy.toml").read_text())
    for table in ("data", "budget", "convert", "bundle"):
        assert tomllib.loads(filled)[table] == written[table]


def test_the_recipe_and_the_readme_tell_the_measured_accuracy():
    measured = json.loads((HERE / "metrics.json").read_text())
    assert read_recipe(HERE / "deploy.toml").model.metrics == measured
    assert measured["accuracy"] >= 0.97
    readme = (HERE / "README.md").read_text()
    assert f"{100 * measured['accuracy']:.2f} % of the other {measured['mails']:,} mails" in readme
    assert (HERE / "model.keras").stat().st_size <= 300_000


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_model_tells_spam_from_ham_in_every_format(tmp_path: Path):
    from pipcook_deploy import plugins
    from pipcook_deploy.model import Model
    from pipcook_deploy.runtimes.litert_runtime import LiteRtRuntime
    from pipcook_deploy.runtimes.onnx_runtime import OnnxRuntime
    from pipcook_deploy.runtimes.tensorflow_runtime import TensorFlowRuntime

    model = load(HERE / "model.keras", workdir=tmp_path)
    (spec,) = model.spec.inputs
    assert (spec.dtype, spec.shape) == ("int32", (None, 256))
    operations = read_recipe(HERE / "deploy.toml").model.preprocessing
    inputs = {spec.name: prepare_batch(operations, [HAM, SPAM])}
    wanted = TensorFlowRuntime().run_model(model, inputs)
    assert wanted["probabilities"].argmax(axis=-1).tolist() == [0, 1]
    for name in ("saved_model", "onnx", "tflite"):
        (tmp_path / name).mkdir()
        source = model
        if name == "onnx":
            source = Model(tmp_path / "saved_model", "saved_model", model.spec)
        artifact = plugins.converter(name)().convert(source, tmp_path / name)
        runtime = {"onnx": OnnxRuntime, "tflite": LiteRtRuntime}.get(name, TensorFlowRuntime)()
        answers = runtime.run_artifact(artifact, inputs)
        np.testing.assert_allclose(answers["probabilities"], wanted["probabilities"], atol=1e-5)
