"""Starts `operator_load.py`: what the operator bears.

    python benchmarks/operator.py [--help]

Python's own module `operator` has the same name, and whoever runs a script of this folder would import this
file in its place. Then it stands aside and loads Python's.
"""

import sys

if __name__ == "__main__":
    import os
    import runpy

    runpy.run_path(
        os.path.join(os.path.dirname(os.path.abspath(__file__)), "operator_load.py"), run_name="__main__"
    )
else:
    # Nothing here may import what imports `operator` itself, and that is most of the library.
    import _frozen_importlib as bootstrap
    import _frozen_importlib_external as external
    import os

    source = os.path.join(os.path.dirname(os.__file__), "operator.py")
    spec = bootstrap.spec_from_loader(__name__, external.SourceFileLoader(__name__, source))
    sys.modules[__name__] = bootstrap.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[__name__])
