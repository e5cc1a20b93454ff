"""What fine-tuning minimizes: the distance from the source model's answers, and from the truth."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Kind = Literal["probabilities", "shares", "logits", "numbers"]

EPSILON = 1e-7


@dataclass(frozen=True)
class OutputLoss:
    """The loss of one output.

    `kind` tells what it holds: "probabilities" of classes that exclude each other, "shares" each in 0-1, "logits" of
    classes, or plain "numbers" (then `scale` is their mean square). `weight` is that of the source's answers
    against the truth, from 1 (answers only) to 0; `temperature` softens probabilities of both models alike
    (Hinton et al. 2015).
    """

    kind: Kind
    weight: float
    temperature: float
    scale: float = 1.0

    def __call__(self, answer: Any, wanted: Any | None, truth: Any | None) -> Any:
        """Mean over the batch. `wanted` is the source's answer, `truth` the target; one may be None."""
        if wanted is None or truth is None:
            return (
                self._to_source(answer, wanted) if truth is None else self._to_truth(answer, truth)
            )
        near = self._to_source(answer, wanted) if self.weight > 0 else 0.0
        right = self._to_truth(answer, truth) if self.weight < 1 else 0.0
        return self.weight * near + (1 - self.weight) * right

    def _to_source(self, answer: Any, wanted: Any) -> Any:
        import tensorflow as tf

        if self.kind in ("probabilities", "logits"):
            t = self.temperature
            soft = tf.nn.softmax(self._logits(wanted) / t)
            logs = tf.nn.log_softmax(self._logits(answer) / t)
            divergence = tf.reduce_sum(soft * (tf.math.log(soft + EPSILON) - logs), axis=-1)
            return t * t * tf.reduce_mean(divergence)
        if self.kind == "shares":
            return tf.reduce_mean(_cross_entropy(answer, wanted))
        return tf.reduce_mean(tf.square(answer - wanted)) / self.scale

    def _to_truth(self, answer: Any, truth: Any) -> Any:
        import tensorflow as tf

        if self.kind in ("probabilities", "logits") and truth.dtype.is_integer:
            logits = self._logits(answer)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
            return tf.reduce_mean(loss)
        truth = tf.reshape(tf.cast(truth, answer.dtype), tf.shape(answer))
        if self.kind == "shares":
            return tf.reduce_mean(_cross_entropy(answer, truth))
        return tf.reduce_mean(tf.square(answer - truth)) / self.scale

    def _logits(self, value: Any) -> Any:
        import tensorflow as tf

        return tf.math.log(value + EPSILON) if self.kind == "probabilities" else value


def loss_for(
    answers: Array, targets: Array | None, *, weight: float, temperature: float
) -> OutputLoss:
    """The loss that fits an output, told by the source's own `answers` and by the targets it belongs to."""
    kind = kind_of(answers, targets)
    scale = float(np.mean(np.square(answers, dtype=np.float64))) + 1e-12
    return OutputLoss(kind, weight, temperature, scale)


def kind_of(answers: Array, targets: Array | None = None) -> Kind:
    """What an output holds, judged by its values: float [n, ...]."""
    inside = bool(answers.size) and answers.min() >= -1e-6 and answers.max() <= 1 + 1e-6
    classes = answers.ndim >= 2 and answers.shape[-1] >= 2
    if inside and classes and np.allclose(answers.sum(axis=-1), 1, atol=1e-3):
        return "probabilities"
    if inside:
        return "shares"
    labelled = targets is not None and targets.dtype.kind in "iu" and targets.ndim == 1
    return "logits" if classes and labelled and answers.ndim == 2 else "numbers"


def _cross_entropy(answer: Any, wanted: Any) -> Any:
    """Of shares each between 0 and 1, with targets between 0 and 1."""
    import tensorflow as tf

    yes = wanted * tf.math.log(answer + EPSILON)
    return -(yes + (1 - wanted) * tf.math.log(1 - answer + EPSILON))
