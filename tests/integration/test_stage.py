"""The whole stage on real models: the example by its recipe, and live models of training scripts."""

import filecmp
import json
import os
import re
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.manifest import SCHEMA
from pipcook_deploy.preprocess.execute import prepare_batch
from pipcook_deploy.runtimes.openvino_runtime import OpenVinoRuntime

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fashion-mnist"
COMMAND = str(Path(sys.executable).with_name("pipcook-deploy"))
RECIPE = """
[model]
source = "workspace"
name = "fashion-mnist"
task = "image-classification"
[convert.tfjs]
[convert.onnx]
[samples]
path = "samples"
"""


def run(arguments, cwd, **environment):
    return subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def example(folder):
    """The example as a user would have it: in a folder of its own."""
    folder.mkdir(parents=True)
    for name in ("workspace", "samples"):
        (folder / name).symlink_to(EXAMPLE / name)
    (folder / "deploy.toml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return example(tmp_path_factory.mktemp("here") / "project")


@pytest.fixture(scope="module")
def done(home):
    return run([COMMAND, "run"], home, PYTHONHASHSEED="1")


@pytest.fixture(scope="module")
def bundle(home, done):
    assert done.returncode == 0, done.stderr
    return Bundle.open(home / "bundle")


def differences(one, two):
    found = filecmp.dircmp(one, two, ignore=[], hide=[])
    assert found.common_funny == []
    _, wrong, odd = filecmp.cmpfiles(one, two, found.common_files, shallow=False)
    below = [differences(one / name, two / name) for name in found.common_dirs]
    return [*found.left_only, *found.right_only, *wrong, *odd, *chain(*below)]


@pytest.mark.heavy
@pytest.mark.node
class TestExample:
    def test_the_artifacts_answer_right(self, bundle):
        bundle.check_files()
        assert bundle.formats == ["tfjs", "onnx"]
        manifest = bundle.manifest
        assert manifest.samples.evaluated == 200
        assert manifest.samples.source_accuracy >= 0.9
        for artifact in manifest.artifacts:
            assert artifact.accuracy == manifest.samples.source_accuracy
            assert artifact.largest_difference <= 1e-4
            assert {row.status for row in artifact.verification} == {"passed"}
        runtimes = [row.runtime for artifact in manifest.artifacts for row in artifact.verification]
        more = ["openvino"] if OpenVinoRuntime.installed() else []
        assert runtimes == ["tfjs-cpu", "tfjs-wasm", "onnxruntime", *more]

    def test_the_manifest_obeys_the_schema(self, bundle):
        data = json.loads((bundle.path / "manifest.json").read_text())
        jsonschema.validate(data, json.loads(SCHEMA.read_text()))

    def test_the_golden_images_become_the_golden_inputs(self, bundle):
        spec, samples = bundle.spec, bundle.manifest.samples
        (name,) = [tensor.name for tensor in spec.inputs]
        folder = bundle.path / "samples" / "encoded"
        images = [(folder / file).read_bytes() for file in samples.encoded]
        assert len(images) == samples.count == 16
        tensors = prepare_batch(spec.preprocessing[name], images)
        np.testing.assert_array_equal(tensors, bundle.golden_inputs()[name])

    def test_the_golden_labels_are_those_of_the_images(self, bundle):
        samples, spec = bundle.manifest.samples, bundle.spec
        assert sorted(spec.labels) == sorted(path.name for path in (EXAMPLE / "samples").iterdir())
        by_content = {
            path.read_bytes(): path.parent.name for path in (EXAMPLE / "samples").rglob("*.png")
        }
        folder = bundle.path / "samples" / "encoded"
        found = [by_content[(folder / file).read_bytes()] for file in samples.encoded]
        assert found == [spec.labels[number] for number in samples.labels]
        scores = next(iter(bundle.golden_outputs().values()))
        assert (scores.argmax(axis=1) == np.array(samples.labels)).mean() >= 0.8

    def test_nothing_of_this_machine_is_in_it(self, bundle, home):
        words = [str(home), str(ROOT), sys.prefix, str(Path.home()), "/tmp", ".staging-"]
        host = re.escape(socket.gethostname().encode())
        private = re.compile(rb"20\d\d-[01]\d-[0-3]\d|\d\d:\d\d:\d\d|\b%s\b" % host)
        for path in bundle.path.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert [word for word in words if word.encode() in content] == [], path.name
            if path.suffix in (".json", ".md", ".txt"):
                assert private.search(content) is None, path.name

    def test_a_second_run_elsewhere_gives_the_same_bytes(self, bundle, tmp_path):
        other = example(tmp_path / "quite" / "another" / "place")
        out = other / "result"
        arguments = [COMMAND, "run", other / "deploy.toml", "--set", f"bundle.out={out}"]
        again = run(
            [*arguments, "--set", "bundle.jobs=1"], tmp_path, PYTHONHASHSEED="7", TZ="Asia/Tokyo"
        )
        assert again.returncode == 0, again.stderr
        assert differences(bundle.path, out) == []
        assert sorted(path.name for path in other.iterdir()) == [
            "deploy.toml",
            "result",
            "samples",
            "workspace",
        ]

    def test_a_copy_is_verified_again(self, bundle, tmp_path):
        copied = run(["cp", "-r", bundle.path, tmp_path / "copy"], tmp_path)
        assert copied.returncode == 0
        again = run([COMMAND, "verify", tmp_path / "copy", "--only", "tfjs", "--json"], tmp_path)
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)


# ---- what is not installed is said before anything is written


@pytest.mark.heavy
class TestMissing:
    def convert(self, home, **environment):
        arguments = [COMMAND, "convert", "workspace", "--to", "tfjs", "--out", "other", "--json"]
        done = run(arguments, home, **environment)
        assert not (home / "other").exists()
        assert [path.name for path in home.iterdir() if path.name.startswith(".")] == []
        return done.returncode, json.loads(done.stdout)["error"]

    def test_node(self, home, tmp_path):
        code, error = self.convert(home, PATH=str(tmp_path), NODE="")
        assert code == 6
        assert "Node, which is not installed" in error["message"]
        assert "install Node 20" in error["hint"]

    def test_packages_of_tfjs(self, home, tmp_path):
        code, error = self.convert(home, PIPCOOK_DEPLOY_HOME=str(tmp_path))
        assert code == 6
        assert "TF.js, which is not installed" in error["message"]
        assert error["hint"] == "run: pipcook-deploy setup node"
        assert list(tmp_path.iterdir()) == []


# ---- a training script hands its model over


SCRIPT = """
import os
with open("runs.txt", "a") as stream:
    stream.write("once\\n")
import {framework} as k
k.utils.set_random_seed(1)
one, two = k.Input((4,), name="left"), k.Input((4,), name="aright")
joined = k.layers.Concatenate()([one, two])
outputs = [k.layers.Dense(2, name="zeta")(joined), k.layers.Dense(2, name="alpha")(joined)]
model = k.Model([one, two], outputs, name="net")
import numpy as np
rng = np.random.default_rng(0)
x = [rng.normal(size=(8, 4)).astype("float32") for _ in range(2)]
before = model.predict_on_batch(x)
import pipcook_deploy
bundle = pipcook_deploy.deploy(model, out="bundle", to=["onnx"])
np.savez("answers.npz", left=x[0], aright=x[1], zeta=before[0], alpha=before[1])
print(bundle.formats, bundle.spec.name)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("framework", ["keras", "tf_keras"])
def test_a_script_without_main_guard_hands_its_model_over(framework, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT.format(framework=framework))
    trained = run([sys.executable, "train.py"], tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.splitlines()[-1] == "['onnx'] net"
    assert (tmp_path / "runs.txt").read_text() == "once\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "answers.npz",
        "bundle",
        "runs.txt",
        "train.py",
    ]
    import onnxruntime

    bundle = Bundle.open(tmp_path / "bundle")
    answers = np.load(tmp_path / "answers.npz")
    artifact = bundle.artifact("onnx")
    session = onnxruntime.InferenceSession(artifact.file)
    found = session.run(
        [b.tensor for b in artifact.outputs], {b.tensor: answers[b.name] for b in artifact.inputs}
    )
    assert [tensor.name for tensor in bundle.spec.outputs] == ["zeta", "alpha"]
    for binding, value in zip(artifact.outputs, found, strict=True):
        np.testing.assert_allclose(value, answers[binding.name], atol=1e-5)
