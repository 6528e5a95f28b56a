"""The gateway: what must outlive pods and laptops, an API to read it, and a page to look at it.

``store``    journals, sessions, results, usage, calibration history in SQLite or PostgreSQL
``stream``   the gRPC stream on which runners and QPU servers journal, durable before acknowledged
``accounts`` what each tenant used lately, sent to every queue
``api``      reading all of it over HTTP, live updates, and the one write: cancel
``page``     the page for people

Whoever writes speaks the stream (`efaas.journal.remote` is its client); whoever reads speaks HTTP.
"""
