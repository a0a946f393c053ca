"""`python -m slicewise.demo.child scaler serve …`: one Slicewise command that ends when its parent does.

The parent holds the other end of our standard input. When it closes, because the parent ended in whatever way, even by
SIGKILL, we ask ourselves to stop as a kubelet would: SIGTERM, then the program's own orderly shutdown.
"""

import os
import signal
import sys
import threading

from slicewise.cli import main


def end_with_parent() -> None:
    def wait() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    main()
