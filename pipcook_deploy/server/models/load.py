"""Makes a model ready: engine, warm-up, golden samples, and how it is best run on this machine."""

from pipcook_deploy.server.engines.make import make_engine
from pipcook_deploy.server.models.loaded import LoadedModel
from pipcook_deploy.server.models.measure import measured_plan
from pipcook_deploy.server.served import ServedModel
from pipcook_deploy.server.settings import Settings


def load(served: ServedModel, settings: Settings) -> LoadedModel:
    """Load, warm and check. Takes as long as that takes: not for the event loop's thread.

    Raises `ServerError` if the artifact cannot be loaded, or answers otherwise than was recorded.
    """
    engine = make_engine(served.artifact, settings.threads)
    plan = measured_plan(engine, served, settings)
    return LoadedModel(served.spec, engine, plan, settings)
