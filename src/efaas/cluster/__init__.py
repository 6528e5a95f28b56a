"""A person's side of a cluster: submit a session, follow it, look at sessions and devices, cancel, plot.

This is what ``efaas submit`` and ``kubectl efaas`` do. It speaks to the API server with the person's own
kubeconfig, and to the gateway and the scheduler through ``kubectl port-forward``, so it needs no address and
no right that kubectl does not have.
"""
