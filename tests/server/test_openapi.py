"""The OpenAPI document: valid, complete, and true of the running server."""

import re
import subprocess
import sys

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from pipcook_deploy.server.openapi.describe import OPERATIONS
from pipcook_deploy.server.openapi.route import load_descriptions
from pipcook_deploy.server.routes import ROUTES, Router
from tests.server import task_models, tiny_models


@pytest.fixture(scope="module", params=["colours", "person", "iris", "half", "fruit"])
def client(request, tmp_path_factory):
    make = getattr(tiny_models, request.param, None) or getattr(task_models, request.param)
    with tiny_models.client_of(make(tmp_path_factory.mktemp("m"))) as found:
        yield found


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


def test_the_document_is_valid(document):
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.1"


def test_every_route_is_in_it(document):
    table = {(method.lower(), path) for method, path, _ in ROUTES} | {("get", "/openapi.json")}
    assert {(m, path) for path, item in document["paths"].items() for m in item} == table


def test_every_route_is_described():
    load_descriptions()
    silent = [row for row in Router(ROUTES).routes if row[2] not in OPERATIONS]
    assert not silent, "call `describe` below these rows of the routing table"


def test_its_examples_are_answered(client, document):
    """What the document proposes for this model is what the model takes."""
    asked = 0
    for path, item in document["paths"].items():
        for said in item.values():
            content = said.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "example" not in content or "Admin" in said["tags"]:
                continue
            for parameter in said.get("parameters", []):
                if parameter["in"] == "path":
                    path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
            if "/labels/" in path:
                continue
            answer = client.post(path, json=content["example"])
            assert answer.status_code == 200 or answer.json().get("error", "").count("JSON form"), (
                path,
                answer.text,
            )
            asked += 1
    assert asked >= 5


def test_with_keys_it_says_where_one_is_needed(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("x" * 40 + "\n")
    with tiny_models.client_of(
        tiny_models.colours(tmp_path), "--api-key-file", str(keys)
    ) as client:
        document = client.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["security"] == [{"bearer": []}, {"key": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "security" not in document["paths"]["/predict"]["post"]


CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,response_headers_conformance"
)
COMMAND = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]


@pytest.mark.parametrize(
    ("model", "phases"), [("colours", "examples,fuzzing"), ("person", "coverage")]
)
def test_the_server_is_as_it_says(tmp_path, model, phases):
    """Requests made from the document, right and wrong ones: none gets a 5xx, each answer conforms."""
    make = getattr(tiny_models, model, None) or getattr(task_models, model)
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'[parameters]\n"path.name" = "{model}"\n"path.version" = "1"\n')
    with tiny_models.serving(make(tmp_path)) as server:
        options = ["--phases", phases, "--max-examples", "6", "--seed", "1", "--checks", CHECKS]
        ran = subprocess.run(
            [
                *COMMAND,
                "--config-file",
                str(config),
                "run",
                f"{server.url}/openapi.json",
                "--no-color",
                *options,
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    tried = re.search(r"(\d+) generated, (\d+) passed", ran.stdout)
    assert tried and tried[1] == tried[2] and int(tried[1]) >= 200, ran.stdout
