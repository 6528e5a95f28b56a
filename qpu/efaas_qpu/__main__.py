"""``python -m efaas_qpu`` is ``efaas-qpu``."""

from efaas_qpu.cli import main

main()
