"""For a script of this folder that has the name of one of Python's own modules.

Whoever runs any script of this folder would import that script in the module's place. So, imported, it stands
aside and has Python's loaded instead.
"""

# Nothing here may import much: most of the library imports the very modules that are being stood in for.
import _frozen_importlib as bootstrap
import _frozen_importlib_external as external
import os
import sys


def run_neighbour(script: str) -> None:
    """Run another script of this folder as the program."""
    import runpy

    folder = os.path.dirname(os.path.abspath(__file__))
    runpy.run_path(os.path.join(folder, script), run_name="__main__")


def load_pythons_own(name: str) -> None:
    """Put Python's own module of this name where the importing module finds it."""
    source = os.path.join(os.path.dirname(os.__file__), f"{name}.py")
    spec = bootstrap.spec_from_loader(name, external.SourceFileLoader(name, source))
    sys.modules[name] = bootstrap.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
