"""Starts `fair_queue.py`: what the fair queue does.

    python benchmarks/queue.py [--help]

Python's own module `queue` has the same name, and whoever runs a script of this folder would import this
file in its place. Then it stands aside and loads Python's.
"""

import sys

if __name__ == "__main__":
    import os
    import runpy

    runpy.run_path(
        os.path.join(os.path.dirname(os.path.abspath(__file__)), "fair_queue.py"), run_name="__main__"
    )
else:
    # Nothing here may import what imports `queue` itself, and that is most of the library.
    import _frozen_importlib as bootstrap
    import _frozen_importlib_external as external
    import os

    source = os.path.join(os.path.dirname(os.__file__), "queue.py")
    spec = bootstrap.spec_from_loader(__name__, external.SourceFileLoader(__name__, source))
    sys.modules[__name__] = bootstrap.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[__name__])
