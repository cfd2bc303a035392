"""A frame that is stored on one thread may be looked at on another at the same moment."""

import subprocess
import sys

PROGRAM = """
import threading
import polars as pl
from streamflow.core.serde import frame_to_ipc

frame = pl.DataFrame({"n": list(range(1_000)), "s": ["text"] * 1_000})
def store():
    for _ in range(200):
        frame_to_ipc(frame)
thread = threading.Thread(target=store, daemon=True)
thread.start()
while thread.is_alive():
    frame.height
print("done")
"""


def test_storing_a_frame_does_not_lock_out_who_else_has_it() -> None:
    # In a process of its own: what this guards against stops the whole interpreter.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "done\n"
