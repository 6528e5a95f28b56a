"""``python -m efaas_scheduler``."""

from efaas_scheduler.cli import main

main()
