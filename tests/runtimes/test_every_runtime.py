"""What every installed runtime must obey, for every format that it runs, as artifact and as source."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from pipcook_deploy import plugins
from pipcook_deploy.errors import DeployError
from pipcook_deploy.model import FORMATS
from pipcook_deploy.steps import runtime_for
from tests import twins as made_twins

RUNTIMES = plugins.runtimes()
# Runtimes run these as sources only: nothing writes a .keras, and keras_h5 is a step of a chain.
SOURCES_ONLY = ("keras", "keras_h5")

pytestmark = pytest.mark.filterwarnings("ignore")  # frameworks warn as they like when they load


def cases():
    """Each variant of each runtime with each format, as a source and as an artifact."""
    found = []
    for kind in RUNTIMES:
        for runtime in kind.variants():
            for model_format in kind.formats:
                marks = [pytest.mark.heavy]
                marks += [pytest.mark.node] if model_format.startswith("tfjs") else []
                for role in ("source", "artifact"):
                    if role == "source" or model_format not in SOURCES_ONLY:
                        label = f"{runtime.label}-{model_format}-{role}"
                        found.append(
                            pytest.param(runtime, model_format, role, marks=marks, id=label)
                        )
    return found


every_case = pytest.mark.parametrize(("runtime", "model_format", "role"), cases())


@dataclass(frozen=True)
class Asked:
    """A runtime with a model in one of its formats."""

    runtime: Any
    subject: Any
    role: str

    def __call__(self, inputs):
        run = self.runtime.run_model if self.role == "source" else self.runtime.run_artifact
        return run(self.subject, inputs)


def asked(twins, runtime, model_format, role):
    subject = twins.source(model_format) if role == "source" else twins.artifact(model_format)
    return Asked(runtime, subject, role)


@pytest.mark.parametrize("kind", RUNTIMES, ids=lambda kind: kind.name)
def test_it_says_what_it_runs(kind):
    assert kind.__doc__
    assert set(kind.formats) <= set(FORMATS)
    if kind.additional:
        assert all(runtime_for(name) is not kind for name in kind.formats), "another one judges"
    else:
        assert all(runtime_for(name) is kind for name in kind.formats), (
            "one runtime judges a format"
        )
    labels = [variant.label for variant in kind.variants()]
    assert labels and len(set(labels)) == len(labels)


@every_case
def test_outputs_have_the_specs_names_and_the_sources_values(runtime, model_format, role, twins):
    ask = asked(twins, runtime, model_format, role)
    for inputs in (twins.inputs, dict(reversed(twins.inputs.items()))):
        found = ask(inputs)
        assert found.keys() == twins.outputs.keys()
        for name, value in twins.outputs.items():
            assert isinstance(found[name], np.ndarray)
            assert found[name].dtype == value.dtype
            np.testing.assert_allclose(found[name], value, atol=1e-5, rtol=0)


@every_case
def test_a_batch_answers_like_its_samples_one_by_one(runtime, model_format, role, twins):
    """Also a batch that is larger than what runtimes take at once."""
    ask = asked(twins, runtime, model_format, role)
    inputs = made_twins.samples(35)
    together = ask(inputs)
    for number in (0, 31, 32, 34):
        alone = ask({name: value[number : number + 1] for name, value in inputs.items()})
        for name, value in alone.items():
            assert value.shape == (1, 3)
            np.testing.assert_allclose(value[0], together[name][number], atol=1e-5, rtol=0)


@every_case
def test_nan_passes_through_to_its_own_sample_only(runtime, model_format, role, twins):
    ask = asked(twins, runtime, model_format, role)
    inputs = {name: value.copy() for name, value in twins.inputs.items()}
    inputs["east"][2, 1] = np.nan
    for name, value in ask(inputs).items():
        assert np.isnan(value[2]).all(), name
        others = np.delete(value, 2, axis=0)
        np.testing.assert_allclose(others, np.delete(twins.outputs[name], 2, axis=0), atol=1e-5)


@every_case
def test_inputs_that_the_model_has_not_or_lacks_are_refused(runtime, model_format, role, twins):
    ask = asked(twins, runtime, model_format, role)
    inputs = twins.inputs
    with pytest.raises(DeployError, match="north"):
        ask(inputs | {"north": inputs["west"]})
    with pytest.raises(DeployError, match="east"):
        ask({"west": inputs["west"]})


@every_case
def test_an_output_that_the_artifact_has_not_is_named(runtime, model_format, role, twins):
    if role == "source":
        pytest.skip("bindings are an artifact's")
    artifact = twins.artifact(model_format)
    outputs = (replace(artifact.outputs[0], tensor="sideways"), *artifact.outputs[1:])
    with pytest.raises(DeployError, match="sideways"):
        runtime.run_artifact(replace(artifact, outputs=outputs), twins.inputs)


@every_case
def test_a_damaged_file_is_refused(runtime, model_format, role, twins, tmp_path):
    source = twins.source(model_format)
    path = tmp_path / source.path.name
    if source.path.is_dir():
        path.mkdir()
        path = path / "saved_model.pb"
        path.write_bytes((source.path / "saved_model.pb").read_bytes()[:50])
        broken = path.parent
    else:
        path.write_bytes(source.path.read_bytes()[:50])
        broken = path
    with pytest.raises(DeployError) as caught:
        if role == "source":
            runtime.run_model(replace(source, path=broken), twins.inputs)
        else:
            artifact = replace(
                twins.artifact(model_format),
                path=broken if broken.is_dir() else tmp_path,
                entry="." if broken.is_dir() else broken.name,
            )
            runtime.run_artifact(artifact, twins.inputs)
    assert len(caught.value.message.splitlines()) == 1
