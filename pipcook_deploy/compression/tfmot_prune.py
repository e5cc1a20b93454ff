"""Pruning by TensorFlow's own toolkit (tensorflow_model_optimization), for Keras 2 models.

Importing it turns `tf.keras` into Keras 2 for the whole process: a worker's child only.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pipcook_deploy.compression.finetune import fine_tune
from pipcook_deploy.compression.keras_layers import Kernel, is_model, kernels
from pipcook_deploy.compression.pruning_plan import RAMP, UPDATE_EVERY, Plan
from pipcook_deploy.compression.teacher import Teacher
from pipcook_deploy.data.split import Split
from pipcook_deploy.errors import CompressionError, MissingDependencyError
from pipcook_deploy.keras_io import is_legacy, load_keras
from pipcook_deploy.model import Model

if TYPE_CHECKING:
    from pipcook_deploy.compression.prune import Prune

# What tfmot prunes of a layer: every kernel of these, but of SeparableConv2D the pointwise one only.
_WHOLE = ("Conv1D", "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose", "Dense", "Embedding")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN")
_ALWAYS_TRUE_STEP = 1


def obstacles(live: Any, found: Sequence[Kernel], todo: Plan) -> list[str]:
    """Why tfmot cannot carry out a plan, by layer; nothing if it can."""
    top = {id(layer) for layer in live.layers}
    reasons = []
    if any(is_model(layer) for layer in live.layers):
        reasons.append("the model has models inside")
    for kernel in found:
        if kernel.name not in todo.sparsities:
            continue
        pointwise = kernel.kind == "SeparableConv2D" and kernel.name.endswith("/pointwise_kernel")
        if kernel.depthwise or not (
            kernel.kind in _WHOLE or kernel.kind in _RECURRENT or pointwise
        ):
            reasons.append(f"{kernel.name} ({kernel.kind}) is not one of its layers")
        elif id(kernel.layer) not in top:
            reasons.append(f"{kernel.name} is inside another layer")
    return reasons


def refuse(model: Model, reasons: Sequence[str]) -> NoReturn:
    """Raise the error that says why tfmot was asked for in vain."""
    raise CompressionError(
        f"{model.path}: tfmot cannot prune it: {'; '.join(reasons)}",
        'use engine = "auto" or "own"',
    )


def prune_with_tfmot(
    options: "Prune", model: Model, live: Any, todo: Plan, train: Split | None
) -> tuple[Any, list[float]]:
    """The pruned model in the source's own Keras, and the losses of the training.

    A Keras 3 model is rebuilt in tf_keras, pruned there, and given the weights.
    """
    try:
        from tensorflow_model_optimization.sparsity import keras as sparsity
    except ImportError as error:
        raise MissingDependencyError(
            "pruning with tfmot needs tensorflow-model-optimization, which is not installed",
            "run: pip install 'pipcook-deploy[tensorflow]', or use engine = \"own\"",
        ) from error
    twin = live
    if not is_legacy(live):
        from pipcook_deploy.keras_rebuild import rebuild

        twin = rebuild(live)
    epochs = options.epochs if train is not None else 0.0
    wrapped = _wrapped(sparsity, twin, todo, options, _steps(options, train, live) if epochs else 0)
    losses = _train(wrapped, options, model, train) if epochs else _prune_once(wrapped)
    pruned = sparsity.strip_pruning(wrapped)
    if is_legacy(live):
        return pruned, losses
    _give(pruned, live)
    return live, losses


def _steps(options: "Prune", train: Split | None, live: Any) -> int:
    count = 0 if train is None else train.count
    fixed = next((t.shape[0] for t in live.inputs if t.shape[0] is not None), None)
    return max(round(options.epochs * count / (fixed or max(1, min(options.batch, count)))), 1)


def _wrapped(sparsity: Any, twin: Any, todo: Plan, options: "Prune", steps: int) -> Any:
    import tf_keras

    shares = _layer_shares(twin, todo)

    def wrap(layer: Any) -> Any:
        if layer.name not in shares:
            return layer.__class__.from_config(layer.get_config())
        fresh = layer.__class__.from_config(layer.get_config())
        pattern = {"sparsity_m_by_n": (2, 4)} if todo.pattern == "2:4" else {}
        return sparsity.prune_low_magnitude(
            fresh, _schedule(sparsity, options, shares[layer.name], steps), **pattern
        )

    wrapped = tf_keras.models.clone_model(twin, clone_function=wrap)
    own = {layer.name: layer for layer in twin.layers}
    for layer in wrapped.layers:
        inner = layer.layer if hasattr(layer, "pruning_obj") else layer
        inner.set_weights(own[inner.name].get_weights())
        if hasattr(layer, "pruning_step"):
            layer.pruning_step.assign(0)
    return wrapped


def _schedule(sparsity: Any, options: "Prune", share: float, steps: int) -> Any:
    ramp = int(steps * RAMP)
    if options.schedule == "constant" or ramp < 2:
        return sparsity.ConstantSparsity(share, begin_step=0, frequency=1)
    frequency = min(UPDATE_EVERY, ramp)
    end = ramp // frequency * frequency
    return sparsity.PolynomialDecay(0.0, share, 0, end, power=3, frequency=frequency)


def _layer_shares(twin: Any, todo: Plan) -> dict[str, float]:
    """tfmot prunes all kernels of a layer alike: those of recurrent layers get the mean of their shares."""
    rows: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for kernel in kernels(twin):
        if kernel.name in todo.sparsities:
            rows[kernel.name.split("/")[0]].append((todo.sparsities[kernel.name], kernel.size))
    return {
        name: sum(share * size for share, size in pairs) / sum(size for _, size in pairs)
        for name, pairs in rows.items()
    }


def _train(wrapped: Any, options: "Prune", model: Model, train: Split | None) -> list[float]:
    if train is None:
        return []
    losses = fine_tune(
        wrapped,
        train,
        options.training,
        model=model,
        teacher=Teacher.of(load_keras(model), model, train),
    )
    for layer in _pruned_layers(wrapped):
        layer.pruning_obj.weight_mask_op()
    return losses


def _prune_once(wrapped: Any) -> list[float]:
    """Without training: what tfmot does at its first step, outside of one."""
    for layer in _pruned_layers(wrapped):
        layer.pruning_step.assign(_ALWAYS_TRUE_STEP)
        layer.pruning_obj.conditional_mask_update()
        layer.pruning_obj.weight_mask_op()
    return []


def _pruned_layers(wrapped: Any) -> list[Any]:
    return [layer for layer in wrapped.layers if hasattr(layer, "pruning_obj")]


def _give(pruned: Any, live: Any) -> None:
    own = {layer.name: layer for layer in live.layers}
    for layer in pruned.layers:
        if layer.weights:
            own[layer.name].set_weights(layer.get_weights())
