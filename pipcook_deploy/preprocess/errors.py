"""What can be wrong with a value that is to be made a tensor, or with the declaration that says how."""

from typing import ClassVar

from pipcook_deploy.errors import DeployError


class PreprocessingError(DeployError):
    """A value does not fit the declared operations, or the operations do not fit each other."""

    exit_code: ClassVar[int] = 2
