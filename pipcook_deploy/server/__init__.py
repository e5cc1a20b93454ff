"""The prediction server: granian and an inference engine, no TensorFlow in the process."""

from typing import TYPE_CHECKING, Any

from pipcook_deploy.server.settings import Settings

if TYPE_CHECKING:
    from pipcook_deploy.server.run import serve
    from pipcook_deploy.server.served import ServedModel

__all__ = ["ServedModel", "Settings", "serve"]


def __getattr__(name: str) -> Any:
    """What needs numpy and asyncio is imported when it is asked for: the command line shows settings without."""
    if name == "serve":
        from pipcook_deploy.server.run import serve

        return serve
    if name == "ServedModel":
        from pipcook_deploy.server.served import ServedModel

        return ServedModel
    raise AttributeError(name)
