"""The statement of where an image comes from, against in-toto Statement v1 and SLSA provenance v1."""

import json

import pytest

from pipcook_deploy.images.provenance import provenance

DIGEST = {"sha256": "a" * 64}
BUILDER = "urn:pipcook-deploy:local"


def state(**changes):
    given = {
        "subjects": [("registry/shop", DIGEST)],
        "materials": [("python:3.11-slim", DIGEST), ("pkg:pypi/numpy@2.4.6", {})],
        "parameters": {"labels": {"b": 1, "a": None}, "base": "python:3.11-slim"},
        "builder": BUILDER,
        "version": "0.1.0",
        "epoch": 315532800,
    }
    return provenance(**given | changes)


def test_what_the_specifications_ask_for_is_there():
    statement = json.loads(state())
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "registry/shop", "digest": DIGEST}]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["buildType"] == "urn:pipcook-deploy:docker-image:1"
    assert definition["externalParameters"]["labels"] == {"a": None, "b": 1}
    assert definition["internalParameters"] == {"sourceDateEpoch": 315532800}
    assert statement["predicate"]["runDetails"] == {
        "builder": {"id": BUILDER, "version": {"pipcook-deploy": "0.1.0"}}
    }


def test_materials_are_uris_or_names_with_digests():
    uri = "https://example.org/a b"
    made = state(
        materials=[
            ("python:3.11-slim", DIGEST),
            ("pkg:pypi/numpy@2.4.6", {}),
            ("git+https://example.org/x@1", {"gitCommit": "b" * 40}),
            (uri, DIGEST),  # a space: not one
        ]
    )
    found = json.loads(made)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"name": "python:3.11-slim", "digest": DIGEST} in found
    assert {"uri": "pkg:pypi/numpy@2.4.6"} in found
    assert {"uri": "git+https://example.org/x@1", "digest": {"gitCommit": "b" * 40}} in found
    assert {"name": uri, "digest": DIGEST} in found


def test_the_text_does_not_depend_on_any_order():
    one, two = ("a", DIGEST), ("b", {"sha256": "b" * 64, "sha512": "c" * 128})
    first = state(subjects=[one, two], materials=[two, one], parameters={"x": 1, "y": 2})
    turned = ("b", {"sha512": "c" * 128, "sha256": "b" * 64})
    again = state(subjects=[turned, one], materials=[one, turned], parameters={"y": 2, "x": 1})
    assert first == again
    assert first.endswith("}\n")
    assert first != state(subjects=[one, two], materials=[two, one], parameters={"x": 1, "y": 3})


def test_hostile_strings_stay_strings():
    name = 'a "b"; $(touch x)\n\x00é'
    statement = json.loads(state(subjects=[(name, DIGEST)], parameters={name: "\ud800"}))
    assert statement["subject"][0]["name"] == name
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {name: "?"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subjects": []}, "no subjects"),
        ({"subjects": [("shop", {})]}, "'shop' has no digest"),
        ({"subjects": [("shop", {"sha256": "sha256:" + "a" * 64})]}, "sha256 is 'sha256:"),
        ({"subjects": [("shop", {"sha256": "A" * 64})]}, "not lower-case"),
        ({"materials": [("base", {})]}, "neither a URI nor has it a digest"),
        ({"builder": "me"}, "the builder 'me' is not a URI"),
        ({"parameters": {"x": float("nan")}}, "Out of range"),
    ],
)
def test_what_they_do_not_allow_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        state(**changes)
