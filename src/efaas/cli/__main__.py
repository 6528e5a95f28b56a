"""``python -m efaas.cli`` is ``efaas``."""

from efaas.cli import main

main(prog_name="efaas")
