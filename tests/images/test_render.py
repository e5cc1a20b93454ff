"""The build context as text: every variant read back as Docker, hadolint and Compose read it."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from pipcook_deploy import plugins
from pipcook_deploy.errors import UsageError
from pipcook_deploy.images.render import epoch, memory_for, public_image
from pipcook_deploy.images.wheel import wheel_name
from tests.bundles import write_small_bundle
from tests.targets.test_every_target import HOSTILE

ENGINES = {"onnxruntime": "onnx", "openvino": "onnx", "litert": "tflite"}
VARIANTS = [
    *[
        {"engine": engine, "variant": variant, "grpc": grpc}
        for engine, variant, grpc in product(
            ENGINES, ("standard", "sagemaker", "lambda"), (False, True)
        )
    ],
    {"engine": "onnxruntime", "variant": "gpu"},
]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {
        format: write_small_bundle(folder / format, name=HOSTILE, format=format)
        for format in ("onnx", "tflite")
    }


@pytest.fixture(params=VARIANTS, ids=lambda options: "-".join(map(str, options.values())))
def options(request):
    return request.param


@pytest.fixture
def files(bundles, options):
    return rendered(bundles, **options)


def rendered(bundles, **options):
    bundle = bundles[ENGINES[options.get("engine", "onnxruntime")]]
    return plugins.target("docker")(**options).render(bundle)


def instructions(text):
    """(WORD, the rest) of each instruction; lines that end in a backslash go on."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines()]


def last_stage(text):
    rows = instructions(text)
    start = max(number for number, (word, _) in enumerate(rows) if word == "FROM")
    return rows[start:]


def test_hadolint_has_nothing_to_say(files, tmp_path):
    program = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    path = tmp_path / "Dockerfile"
    path.write_text(files["Dockerfile"])
    done = subprocess.run(
        [program, "--failure-threshold", "warning", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_a_name_adds_no_instruction(files, options, tmp_path):
    format = ENGINES[options["engine"]]
    plain = rendered({format: write_small_bundle(tmp_path / "plain", format=format)}, **options)
    words = [[word for word, _ in instructions(one["Dockerfile"])] for one in (files, plain)]
    assert words[0] == words[1]
    assert not re.search(r"(?m)^\s*(touch|\{z\})", files["Dockerfile"])


@pytest.mark.parametrize("directive", ["syntax=evil.example/x:1", "escape=`", "check=skip=all"])
def test_a_name_is_no_directive_to_the_parser(tmp_path, directive):
    """Docker reads `# key=value` as one as long as nothing else came before."""
    bundle = write_small_bundle(tmp_path / "b", name=directive)
    for variant in ("standard", "gpu"):
        text = plugins.target("docker")(variant=variant).render(bundle)["Dockerfile"]
        first = text.splitlines()[0]
        assert directive in text and not re.match(r"#\s*\w+\s*=", first)


def test_the_last_stage_runs_nothing_and_is_not_root_but_for_sagemaker(files, options):
    stage = last_stage(files["Dockerfile"])
    assert "RUN" not in {word for word, _ in stage}
    base = dict(stage)["FROM"]
    assert base == ("${BASE}" if options["variant"] == "gpu" else "scratch")
    assert dict(stage)["USER"] == ("0:0" if options["variant"] == "sagemaker" else "10001:10001")
    entry = json.loads(dict(stage)["ENTRYPOINT"])
    assert entry[-2:] == ["serve", "/model"]
    health = dict(stage)["HEALTHCHECK"]
    assert json.loads(health[health.index("[") :])[-1] == "pipcook_deploy.container.health"


def test_the_model_comes_after_what_it_does_not_change(files):
    copied = [rest.split()[1] for word, rest in last_stage(files["Dockerfile"]) if word == "COPY"]
    order = [name for name in copied if name.startswith("/image/")]
    assert order[-2:] == ["/image/model/", "/image/documents/"]
    assert "/image/packages/" in order[:-2]


def test_the_adapter_of_lambda_is_there_when_asked_for(files, options):
    has = "/opt/extensions/lambda-adapter" in files["Dockerfile"]
    assert has == (options["variant"] == "lambda")
    assert ("AWS_LWA_READINESS_CHECK_PATH" in files["Dockerfile"]) == has
    assert (f"FROM {public_image('lambda_adapter')} AS adapter" in files["Dockerfile"]) == has


def test_only_one_engine_is_installed_and_every_package_by_its_hash(files, options):
    names = set(re.findall(r"(?m)^([a-z0-9.-]+)==", files["requirements.txt"].lower()))
    engines = {"onnxruntime", "onnxruntime-gpu", "openvino", "ai-edge-litert"}
    wanted = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}
    one = "onnxruntime-gpu" if options["variant"] == "gpu" else wanted[options["engine"]]
    assert names & engines == {one}
    assert ("grpcio" in names) == bool(options.get("grpc"))
    assert not names & {
        "tensorflow",
        "keras",
        "tf-keras",
        "openvino-telemetry",
        "pip",
        "setuptools",
    }
    assert {"granian", "numpy", "pydantic"} <= names


def test_what_docker_copies_is_sent_and_nothing_else(files):
    ignored = [line for line in files[".dockerignore"].splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    sent = {line[1:] for line in ignored[1:]}
    rows = instructions(files["Dockerfile"])
    sources = {
        rest.split()[0].rstrip("/")
        for word, rest in rows
        if word == "COPY" and "--from" not in rest
    }
    assert sources | {"Dockerfile"} == sent
    there = {name.split("/")[0] for name in files} | {"bundle", wheel_name()}
    assert sent <= there
    assert not any(fnmatch.fnmatch("image.json", pattern) for pattern in sent)


def test_scripts_that_a_build_runs_are_sent(files):
    for word, rest in instructions(files["Dockerfile"]):
        if word == "RUN":
            program, script, *_ = json.loads(rest)
            assert program == "python3" and f"layers/{script}" in files
    assert "layers/__init__.py" not in files


def test_compose_reads_what_was_meant(files, options):
    service = yaml.safe_load(files["compose.yaml"])["services"]["server"]
    assert service["image"] == "a-b-touch-x-touch-y-z:1"
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["mem_limit"] == "256m" and service["pids_limit"] == 64
    assert service["user"] == dict(last_stage(files["Dockerfile"]))["USER"]
    scraped = yaml.safe_load(files["prometheus.yml"])["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == ["server:8080"]


def test_provenance_names_what_went_in(files, options):
    statement = json.loads(files["provenance.json"])
    parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["engine"] == options["engine"]
    materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    named = {row.get("uri") or row.get("name") for row in materials}
    assert {"pkg:docker/python@3.11-slim", "requirements.txt", wheel_name(), "m.keras"} <= named


@pytest.mark.parametrize(
    "base", ["x y", "x\nRUN touch y", "$(touch x)", "Python:3", "a@sha256:12", "a;b"]
)
def test_a_base_that_is_no_name(base):
    with pytest.raises(ValidationError, match="is no name of an image"):
        plugins.target("docker")(base=base)


def test_a_base_by_digest(bundles):
    digest = "sha256:" + "ab" * 32
    files = rendered(bundles, base=f"registry.example:5000/python@{digest}")
    assert f"ARG BASE=registry.example:5000/python@{digest}" in files["Dockerfile"]
    assert "ab" * 32 in files["provenance.json"]


def test_the_time_of_everything_can_be_chosen(bundles, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    text = rendered(bundles)["Dockerfile"]
    assert "ARG SOURCE_DATE_EPOCH=1700000000" in text
    assert 'image.created="2023-11-14T22:13:20Z"' in text
    for wrong in ("soon", "-1", "1" * 40, "٣"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
            epoch()


def test_larger_models_get_more_memory(bundles):
    bundle = bundles["onnx"]
    assert memory_for(bundle, "onnx") == 256 << 20
    entry = bundle.manifest.artifacts[0]
    file = entry.files[0].model_copy(update={"size": 100 << 20})
    large = bundle.manifest.model_copy(
        update={"artifacts": (entry.model_copy(update={"files": (file,)}),)}
    )
    found = memory_for(type(bundle)(bundle.path, large), "onnx")
    assert found > 5 * (90 << 20) and found % (64 << 20) == 0
