"""Starts `operator_load.py`: what the operator bears.

    python benchmarks/operator.py [--help]

Python's own module `operator` has the same name; see `shadowed.py`.
"""

import shadowed

if __name__ == "__main__":
    shadowed.run_neighbour("operator_load.py")
else:
    shadowed.load_pythons_own(__name__)
