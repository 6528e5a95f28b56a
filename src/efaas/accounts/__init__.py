"""What tenants used lately: the message (`message`), and the client that keeps up with it (`client`).

The gateway keeps the decayed (CPU, QPU) account of each tenant over all devices. Queues hear of it over the
gateway's gRPC stream; whoever places or admits sessions (operator, extender) over HTTP as server-sent events,
which needs nothing but aiohttp: ``GET /api/v1/accounts``. `efaas run` plays the gateway's part with a file
for each device, in the same words.
"""
