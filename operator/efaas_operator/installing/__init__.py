"""What the chart's jobs do around the operator: devices at first, certificates, checks, leaving tidily.

A chart's templates can make objects, and no more. Three things of an installation need a program: a device
for each QPU node (templates do not know the nodes, and cannot hold objects of a kind that the same release
brings), certificates that are renewed, and an end in which devices go while the operator still lives, because
only the operator takes its finalizers off. Each is a command of ``python -m efaas_operator.installing``.
"""
