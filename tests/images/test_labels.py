"""What an image says of itself, by the keys of the OCI image specification."""

import pytest

from pipcook_deploy.bundle import Bundle
from pipcook_deploy.images.labels import LONGEST, OCI, OWN, labels
from tests.bundles import write_small_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_small_bundle(tmp_path / "bundle", name="shoes")


def described(bundle, **changes):
    spec = bundle.spec.with_changes(**changes)
    changed = Bundle(bundle.path, bundle.manifest.model_copy(update={"spec": spec}))
    return labels(changed, engine="onnxruntime", content="c" * 64, base="python:3.11", epoch=0)


def test_it_says_what_it_is_and_what_it_was_made_of(bundle):
    found = described(bundle, license="MIT", description="Tells shoes apart", version="1.2")
    assert found == {
        f"{OCI}.title": "shoes",
        f"{OCI}.version": "1.2",
        f"{OCI}.description": "Tells shoes apart",
        f"{OCI}.licenses": "MIT",
        f"{OCI}.revision": "0" * 64,
        f"{OCI}.created": "1970-01-01T00:00:00Z",
        f"{OCI}.base.name": "python:3.11",
        f"{OWN}.engine": "onnxruntime",
        f"{OWN}.bundle": "c" * 64,
        f"{OWN}.source-format": "keras",
    }


def test_what_is_not_known_is_not_said_and_what_is_long_is_cut(bundle):
    found = described(bundle, description="x" * (LONGEST + 1))
    assert f"{OCI}.licenses" not in found
    assert found[f"{OCI}.description"] == "x" * LONGEST
    assert described(bundle)[f"{OCI}.description"] == "A prediction server for shoes"
