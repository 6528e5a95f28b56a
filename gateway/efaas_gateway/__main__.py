"""``python -m efaas_gateway``: the same as ``efaas-gateway``."""

from efaas_gateway.cli import main

if __name__ == "__main__":
    main()
