"""`python -m efaas.runner`: run the session that the environment names."""

import os
import sys

from efaas.runner.main import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is on disk; unwinding gRPC's and Qiskit's threads would only cost time.
    os._exit(code)
