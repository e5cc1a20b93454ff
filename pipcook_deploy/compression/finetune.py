"""Trains a model again after its weights were changed, to answer as the source does.

One loop for Keras 3 and tf_keras: gradients of TensorFlow, Adam of the model's own Keras.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipcook_deploy.compression.batches import Samples, read_ahead, samples_of, shuffled
from pipcook_deploy.compression.keras_layers import kernels, leaves
from pipcook_deploy.compression.losses import OutputLoss, loss_for
from pipcook_deploy.compression.teacher import Teacher
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError
from pipcook_deploy.keras_io import call_keras, is_legacy
from pipcook_deploy.model import Model

Array = NDArray[Any]
Masks = Mapping[str, Array]  # by kernel: what is kept
Schedule = Callable[
    [int, int], Masks | None
]  # step, steps -> masks from here on; None: as they are
Clusters = Mapping[str, Array]  # by kernel: the number of each weight's cluster
Progress = Callable[[int, int, float], None]  # step, steps, loss

REPORT_EVERY = 50  # steps


@dataclass(frozen=True)
class Training:
    """How to train. `weight` and `temperature` are those of `losses.OutputLoss`.

    `batch_norm` "frozen" keeps the statistics of batch norms, "train" lets them follow the new weights.
    """

    epochs: float
    learning_rate: float = 1e-3
    batch: int = 128
    seed: int = 0
    weight: float = 0.7
    temperature: float = 2.0
    batch_norm: Literal["train", "frozen"] = "train"


def fine_tune(
    live: Any,
    split: Split,
    training: Training,
    *,
    model: Model | None = None,
    masks: Masks | Schedule | None = None,
    clusters: Clusters | None = None,
    teacher: Any | None = None,
    before_step: Callable[[int], None] | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train `live` in place; the mean loss of each epoch.

    `teacher` is the source: a live model, or a `Teacher` for the same split; without one the targets are all
    there is to learn. Masked weights stay 0, weights of one cluster stay equal. The same seed, samples and
    machine give the same weights. Raises `CompressionError` when there is nothing to learn from, or when the
    loss is not a number.
    """
    samples = samples_of(live, split, model)
    if isinstance(teacher, Teacher) or teacher is None:
        source = teacher
    else:
        source = Teacher(teacher, samples)
    if source is None and samples.targets is None:
        raise CompressionError(
            f"{split.folder}: nobody said what is right, and there is no source to learn from"
        )
    size = samples.batch(training.batch)
    steps = round(training.epochs * samples.count / size)
    if steps < 1:
        return []
    with _deterministic(live, training.seed), _batch_norms(live, training.batch_norm):
        loop = _Loop(live, samples, training, source, masks, clusters, steps)
        return loop.run(size, before_step, progress)


@contextmanager
def _deterministic(live: Any, seed: int) -> Iterator[None]:
    """So that shuffling, dropout and sums repeat, wherever the model was before."""
    import tensorflow as tf
    from tensorflow.python.framework.config import disable_op_determinism

    tf.config.experimental.enable_op_determinism()
    _seed(live, seed)
    try:
        yield
    finally:
        disable_op_determinism()  # it would refuse random numbers without a seed elsewhere


def _seed(live: Any, seed: int) -> None:
    import keras

    keras.utils.set_random_seed(seed)
    if is_legacy(live):
        import tf_keras

        tf_keras.utils.set_random_seed(seed)
    for number, (_, layer) in enumerate(leaves(live)):
        generator = getattr(layer, "seed_generator", None)
        state = getattr(generator, "state", None)
        if state is not None:
            state.assign(np.array([seed, number], dtype="uint32"))


@contextmanager
def _batch_norms(live: Any, mode: str) -> Iterator[None]:
    norms = [layer for _, layer in leaves(live) if type(layer).__name__ == "BatchNormalization"]
    before = [layer.trainable for layer in norms]
    for layer in norms if mode == "frozen" else []:
        layer.trainable = False
    try:
        yield
    finally:
        for layer, trainable in zip(norms, before, strict=True):
            layer.trainable = trainable


class _Loop:
    def __init__(
        self,
        live: Any,
        samples: Samples,
        training: Training,
        teacher: Teacher | None,
        masks: Masks | Schedule | None,
        clusters: Clusters | None,
        steps: int,
    ) -> None:
        import tensorflow as tf

        self._live, self._samples, self._training = live, samples, training
        self._teacher, self._steps = teacher, steps
        self._schedule = masks if callable(masks) else None
        self._kernels = {kernel.name: kernel for kernel in kernels(live)}
        self._masks = self._mask_variables(masks)
        self._codes = {
            id(self._kernels[name].variable): (tf.constant(codes.ravel()), int(codes.max()) + 1)
            for name, codes in (clusters or {}).items()
        }
        self._variables = [*live.trainable_variables]
        self._optimizer = _adam(live, training.learning_rate, steps)
        self._optimizer.build(self._variables)
        self._losses: list[OutputLoss] = []
        self._step = tf.function(self._train, reduce_retracing=True)

    def run(
        self, size: int, before_step: Callable[[int], None] | None, progress: Progress | None
    ) -> list[float]:
        import tensorflow as tf

        order = shuffled(self._samples.count, size, self._steps, self._training.seed)
        found: list[Any] = []
        for step, (index, inputs, truth) in enumerate(read_ahead(self._samples, order)):
            if before_step is not None:
                before_step(step)
            self._update_masks(step)
            wanted = None
            if self._teacher is not None:
                wanted = [tf.constant(a) for a in self._teacher.answers(index, inputs)]
            if not self._losses:
                self._losses = self._make_losses(inputs, wanted, index)
            found.append(self._step(inputs, wanted, truth))
            if progress is not None and (step + 1) % REPORT_EVERY == 0:
                progress(step + 1, self._steps, float(found[-1]))
        if self._teacher is not None:
            self._teacher.keep()
        return _by_epoch([float(x) for x in found], max(round(self._training.epochs), 1))

    def _train(self, inputs: list[Any], wanted: list[Any] | None, truth: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            answers = call_keras(self._live, inputs, training=True)
            loss = self._loss(answers, wanted, truth)
            regular = [x for x in getattr(self._live, "losses", []) if x is not None]
            total = tf.add_n([loss, *regular]) if regular else loss
        pairs = zip(self._variables, _gradients(tape, total, self._variables), strict=True)
        self._optimizer.apply_gradients([(self._held(v, g), v) for v, g in pairs])
        for mask, variable in self._masks.values():
            variable.assign(variable * mask)
        return loss

    def _loss(self, answers: list[Any], wanted: list[Any] | None, truth: Any) -> Any:
        """The first output has the targets; what no one says anything about counts nothing."""
        import tensorflow as tf

        parts = []
        for number, (loss, answer) in enumerate(zip(self._losses, answers, strict=True)):
            right = truth if number == 0 else None
            source = None if wanted is None else wanted[number]
            if right is not None or source is not None:
                parts.append(loss(tf.cast(answer, tf.float32), source, right))
        return tf.add_n(parts)

    def _held(self, variable: Any, gradient: Any) -> Any:
        """Weights of one cluster move together; masked ones do not push the moments of Adam."""
        import tensorflow as tf

        if id(variable) in self._codes:
            codes, count = self._codes[id(variable)]
            sums = tf.math.unsorted_segment_sum(tf.reshape(gradient, [-1]), codes, count)
            gradient = tf.reshape(tf.gather(sums, codes), tf.shape(gradient))
        for mask, masked in self._masks.values():
            if masked is variable:
                gradient = gradient * mask
        return gradient

    def _mask_variables(self, masks: Masks | Schedule | None) -> dict[str, tuple[Any, Any]]:
        import tensorflow as tf

        first = masks(0, self._steps) or {} if callable(masks) else masks or {}
        found = {}
        for name, mask in first.items():
            kernel = self._kernels[name]
            kernel.set(kernel.get() * mask)
            value = mask.astype("float32")
            found[name] = (tf.Variable(value, trainable=False), kernel.variable)
        return found

    def _update_masks(self, step: int) -> None:
        fresh = self._schedule(step, self._steps) if self._schedule and step else None
        for name, mask in (fresh or {}).items():
            self._masks[name][0].assign(mask.astype("float32"))
            self._kernels[name].set(self._kernels[name].get() * mask)

    def _make_losses(
        self, inputs: list[Any], wanted: list[Any] | None, index: Array
    ) -> list[OutputLoss]:
        from_model = wanted if wanted is not None else call_keras(self._live, inputs)
        answers = [np.asarray(value) for value in from_model]
        targets = None if self._samples.targets is None else self._samples.targets[index]
        return [
            loss_for(
                answer,
                targets if number == 0 else None,
                weight=self._training.weight,
                temperature=self._training.temperature,
            )
            for number, answer in enumerate(answers)
        ]


def _adam(live: Any, learning_rate: float, steps: int) -> Any:
    import importlib

    library = importlib.import_module("tf_keras" if is_legacy(live) else "keras").optimizers
    return library.Adam(library.schedules.CosineDecay(learning_rate, steps))


def _gradients(tape: Any, loss: Any, variables: list[Any]) -> list[Any]:
    import tensorflow as tf

    raw = [getattr(variable, "value", variable) for variable in variables]
    raw = [
        variable if callable(value) else value
        for variable, value in zip(variables, raw, strict=True)
    ]
    found = tape.gradient(loss, raw, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(gradient) for gradient in found]


def _by_epoch(losses: list[float], epochs: int) -> list[float]:
    if not np.isfinite(losses).all():
        raise CompressionError(
            "the loss of the fine-tuning is not a number", "set a smaller learning_rate"
        )
    return [float(np.mean(part)) for part in np.array_split(losses, epochs) if part.size]
