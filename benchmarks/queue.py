"""Starts `fair_queue.py`: what the fair queue does.

    python benchmarks/queue.py [--help]

Python's own module `queue` has the same name; see `shadowed.py`.
"""

import shadowed

if __name__ == "__main__":
    shadowed.run_neighbour("fair_queue.py")
else:
    shadowed.load_pythons_own(__name__)
