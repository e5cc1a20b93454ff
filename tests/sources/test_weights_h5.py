import h5py
import pytest

from pipcook_deploy.errors import SourceError
from pipcook_deploy.sources import weights_h5


def test_data_that_is_a_view_of_another_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["x"] = [1.0, 2.0]
    layout = h5py.VirtualLayout((2,), "f8")
    layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "x", (2,))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_virtual_dataset("layer/kernel", layout)
    with (
        weights_h5.opened(tmp_path / "m.h5", "m.h5") as h5,
        pytest.raises(SourceError, match="another file"),
    ):
        weights_h5.datasets(h5, "m.h5")
