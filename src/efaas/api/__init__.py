"""The API group efaas.dev: models of its resources, quantities, manifests, wire messages."""
