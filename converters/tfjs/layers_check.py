"""Which Keras layers TF.js' layers API has, and which of their options it ignores or refuses."""

import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from pipcook_deploy.errors import UnsupportedConversionError
from pipcook_deploy.keras_rebuild.config import HARD_SIGMOID

Config = dict[str, Any]

ADVICE = "write a graph instead: --set tfjs.kind=graph"

# Options that TF.js 4.22 ignores (and answers wrongly) or throws at. Found by reading tfjs-layers' sources
# and running it; a condition is true when the layer cannot be had.
_UNSUPPORTED: dict[str, dict[str, Callable[[Config], Any]]] = {
    "*": {
        "groups": lambda c: c.get("groups", 1) != 1,
        "keepdims": lambda c: c.get("keepdims"),
        "time_major": lambda c: c.get("time_major"),
        "output_padding": lambda c: c.get("output_padding") is not None,
        "hard_sigmoid of Keras 3": lambda c: HARD_SIGMOID in _activations(c),
    },
    "GRU": {"reset_after": lambda c: c.get("reset_after")},
    "GRUCell": {"reset_after": lambda c: c.get("reset_after")},
    "ReLU": {
        "negative_slope": lambda c: c.get("negative_slope"),
        "threshold": lambda c: c.get("threshold"),
    },
    "ELU": {"alpha": lambda c: c.get("alpha", 1.0) != 1.0},
    "UpSampling2D": {"interpolation": lambda c: c.get("interpolation", "nearest") != "nearest"},
    "Resizing": {"its sampling positions": lambda c: True},
    "Rescaling": {
        "scale by channel": lambda c: isinstance(c.get("scale"), list),
        "offset by channel": lambda c: isinstance(c.get("offset"), list),
    },
    "Conv1D": {"causal padding": lambda c: c.get("padding") == "causal"},
    "Conv2DTranspose": {"dilation_rate": lambda c: _dilated(c)},
    "Conv3DTranspose": {"dilation_rate": lambda c: _dilated(c)},
    "Bidirectional": {"backward_layer": lambda c: c.get("backward_layer")},
}


def check_layer(class_name: str, config: Config) -> None:
    """Raise `UnsupportedConversionError` naming the layer when TF.js cannot run it as it is."""
    where = f"layer {config.get('name')!r} ({class_name})"
    if class_name not in known()["layers"]:
        raise UnsupportedConversionError(f"{where}: TF.js has no such layer", ADVICE)
    for name in _activations(config) - {HARD_SIGMOID}:
        if _camel(name) not in known()["activations"]:
            raise UnsupportedConversionError(f"{where}: TF.js has no activation {name!r}", ADVICE)
    for option, unsupported in (_UNSUPPORTED["*"] | _UNSUPPORTED.get(class_name, {})).items():
        if unsupported(config):
            raise UnsupportedConversionError(f"{where}: TF.js does not support {option}", ADVICE)


@cache
def known() -> dict[str, frozenset[str]]:
    """Names that TF.js registers: `layers` and `activations`."""
    text = files("pipcook_deploy.converters.tfjs").joinpath("data", "tfjs_layers.json").read_text()
    data = json.loads(text)
    return {key: frozenset(data[key]) for key in ("layers", "activations")}


def _activations(config: Config) -> set[str]:
    values = (config.get(key) for key in ("activation", "recurrent_activation"))
    return {
        value if isinstance(value, str) else repr(value) for value in values if value is not None
    }


def _dilated(config: Config) -> bool:
    rate = config.get("dilation_rate", 1)
    return any(n != 1 for n in (rate if isinstance(rate, list | tuple) else [rate]))


def _camel(name: str) -> str:
    # gelu_new is registered as it is: TF.js reads the name in camel case only where it has none
    if name in known()["activations"]:
        return name
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
