"""The operator: carries sessions and devices from their documents to pods, and back to their status.

Its layers, from the outside in: handlers hear of changes, services carry decisions out, and the functions of
`efaas_operator.build` turn documents into documents without any input or output. What is decided is decided
by `efaas.core.session` and `efaas.core.admission`.

The folder above holds this package and is never a package itself: as ``operator`` it would hide the standard
library's module of that name.
"""
