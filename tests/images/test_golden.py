"""What a started image has to answer: classes of lone probabilities, shares that may be wrong, batches of one size."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipcook_deploy.compare import Tolerance
from pipcook_deploy.errors import BootError
from pipcook_deploy.images import golden as module
from pipcook_deploy.images.contracts import COMMON, Contract
from pipcook_deploy.images.golden import Golden
from pipcook_deploy.spec import ModelSpec

LOSSY = Tolerance(agreement=0.9)


def golden(tmp_path, scores, labels, *, tolerance=None, batch=None):
    """As of a bundle with a picture a sample."""
    scores = np.asarray(scores, np.float32)
    files = tuple(f"{number:03d}.png" for number in range(len(scores)))
    (tmp_path / "samples" / "encoded").mkdir(parents=True)
    for number, file in enumerate(files):
        (tmp_path / "samples" / "encoded" / file).write_bytes(bytes([number]))
    spec = ModelSpec(
        task="image-classification",
        labels=labels,
        inputs=[{"name": "x", "dtype": "float32", "shape": [batch, 1]}],
        outputs=[{"name": "y", "dtype": "float32", "shape": [batch, scores.shape[1]]}],
    )
    bindings = [SimpleNamespace(shape=(batch, 1))]
    bundle = SimpleNamespace(
        path=tmp_path,
        spec=spec,
        manifest=SimpleNamespace(samples=SimpleNamespace(encoded=files)),
        artifact=lambda format: SimpleNamespace(inputs=bindings, outputs=bindings),
    )
    inputs = {"x": np.arange(len(scores), dtype=np.float32)[:, None]}
    return Golden(bundle, "onnx", inputs, {"y": scores}, tolerance or Tolerance())


@pytest.fixture
def answers(monkeypatch):
    """What the server says of each picture, by its only byte."""
    said = {}
    monkeypatch.setattr(module, "label_of", lambda server, content: said[content[0]])
    return said


@pytest.mark.parametrize(("said", "right"), [((1, "dog"), True), ((0, "cat"), False)])
def test_a_lone_probability_is_that_of_the_second_class(tmp_path, answers, said, right):
    made = golden(tmp_path, [[0.97]], ["cat", "dog"])
    answers[0] = said
    if right:
        assert made.check_labels(None) == 1
        return
    with pytest.raises(BootError, match=r"000.png: 'cat' instead of 'dog'"):
        made.check_labels(None)


@pytest.mark.parametrize(
    ("tolerance", "wrong", "right"), [(LOSSY, 1, True), (LOSSY, 2, False), (None, 1, False)]
)
def test_as_many_labels_may_be_wrong_as_the_artifact_may_disagree_on(
    tmp_path, answers, tolerance, wrong, right
):
    made = golden(tmp_path, [[0.9, 0.1]] * 10, ["a", "b"], tolerance=tolerance)
    answers |= {number: (1, "b") if number < wrong else (0, "a") for number in range(10)}
    if right:
        assert made.check_labels(None) == 10
        return
    with pytest.raises(BootError, match=r"000.png: 'b' instead of 'a'"):
        made.check_labels(None)


def test_a_class_that_there_is_not(tmp_path, answers):
    made = golden(tmp_path, [[0.9, 0.1]], ["a", "b"])
    for chosen in (2, -1):
        answers[0] = (chosen, "?")
        with pytest.raises(BootError, match="instead of 'a'"):
            made.check_labels(None)


def contract_that_says(scores):
    return Contract("C", lambda server, spec, inputs: {"y": np.asarray(scores, np.float32)}, True)


def test_the_first_answer_is_judged_where_every_one_has_to_be_right(tmp_path):
    made = golden(tmp_path, [[0.9, 0.1]] * 10, ["a", "b"])
    made.check_first(contract_that_says([[0.9, 0.1]]), None)
    with pytest.raises(BootError, match="C: other answers than the bundle recorded"):
        made.check_first(contract_that_says([[0.1, 0.9]]), None)
    with pytest.raises(BootError, match="C: the answer has another form"):
        made.check_first(Contract("C", lambda *asked: {}["y"], True), None)


def test_one_answer_says_nothing_where_a_share_may_be_wrong(tmp_path):
    made = golden(tmp_path, [[0.9, 0.1]] * 10, ["a", "b"], tolerance=LOSSY)
    made.check_first(contract_that_says([[0.1, 0.9]]), None)
    wrong = [[0.1, 0.9]] + [[0.9, 0.1]] * 9
    assert made.judged(COMMON[0], {"y": np.asarray(wrong, np.float32)}) == pytest.approx(0.8)
    wrong[1] = [0.1, 0.9]
    with pytest.raises(BootError, match=r"agrees on 80.0% of samples, wanted 90.0%"):
        made.judged(COMMON[0], {"y": np.asarray(wrong, np.float32)})


def test_a_request_holds_as_many_samples_as_the_model_takes(tmp_path):
    assert golden(tmp_path / "a", [[1.0]] * 3, []).request()["x"].tolist() == [[0]]
    fixed = golden(tmp_path / "b", [[1.0]] * 3, [], batch=5).request()["x"]
    assert fixed.tolist() == [[0], [1], [2], [0], [1]]
