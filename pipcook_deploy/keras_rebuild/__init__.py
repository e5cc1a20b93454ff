"""Keras 3 models as Keras 2: as configuration (for TF.js) and as live tf_keras models (for tfmot)."""

from pipcook_deploy.keras_rebuild.build import rebuild
from pipcook_deploy.keras_rebuild.config import keras2_entry

__all__ = ["keras2_entry", "rebuild"]
