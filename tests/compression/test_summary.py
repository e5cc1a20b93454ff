import pytest

from pipcook_deploy.compression.summary import unjudged
from pipcook_deploy.spec import ModelSpec, TensorSpec


@pytest.mark.parametrize(
    ("outputs", "task", "said"),
    [
        (("a",), "tabular", []),
        (("boxes", "scores"), "object-detection", []),
        (
            ("a", "b", "c"),
            "tabular",
            ["only the first output, a, is judged; b, c may have lost more"],
        ),
    ],
)
def test_outputs_that_no_metric_looks_at_are_named(outputs, task, said):
    specs = tuple(TensorSpec(name=name, dtype="float32", shape=(None, 1)) for name in outputs)
    assert unjudged(ModelSpec(task=task, outputs=specs)) == said
