"""What the client scripts share; they run in the environment of `requirements.txt`, without this project.

A check is a function of a script that takes the server's two addresses and asserts. Its name is printed when it
is through, so that the test that runs the script can tell that all of them were.
"""

import sys
import traceback

import numpy as np

# As the model `echo` takes and gives them; text is bytes on the wire.
VALUES = {
    "float32": ("FP32", np.array([[1.5, -2]], np.float32)),
    "float64": ("FP64", np.array([[1e300, 0.1]], np.float64)),
    "uint8": ("UINT8", np.array([[0, 255]], np.uint8)),
    "int8": ("INT8", np.array([[-128, 127]], np.int8)),
    "uint16": ("UINT16", np.array([[0, 65535]], np.uint16)),
    "int16": ("INT16", np.array([[-32768, 32767]], np.int16)),
    "uint32": ("UINT32", np.array([[0, 2**32 - 1]], np.uint32)),
    "int32": ("INT32", np.array([[-(2**31), 7]], np.int32)),
    "uint64": ("UINT64", np.array([[0, 2**64 - 1]], np.uint64)),
    "int64": ("INT64", np.array([[-(2**63), 2**63 - 1]], np.int64)),
    "bool": ("BOOL", np.array([[True, False]])),
    "string": ("BYTES", np.array([['é "x"'.encode(), b""]], np.object_)),
}


def text(array):
    """As strings, whether a client hands out text or bytes."""
    decode = np.vectorize(lambda item: item.decode() if isinstance(item, bytes) else str(item))
    return decode(array).tolist()


def same(name, found):
    """Whether an answer is what was sent."""
    sent = VALUES[name][1]
    if name == "string":
        return text(found) == text(sent)
    return found.dtype == sent.dtype and found.tolist() == sent.tolist()


def run(checks, *addresses):
    """Run them all; the exit code is how many failed."""
    failed = 0
    for check in checks:
        try:
            check(*addresses)
        except Exception:
            failed += 1
            print(f"FAILED {check.__name__}")
            traceback.print_exc()
        else:
            print(f"passed {check.__name__}")
    sys.exit(failed)
