"""The loop of one session: `python -m efaas.runner`, told by its environment what to run.

::

    __main__ ── main      signals, exit codes; either
                ├── loop      the declared problem: ask, submit, tell, journal, acknowledge, again
                └── program   the user's own script on `efaas.sdk`
    prepare               from the session's document to circuits, observables, an optimizer
    dispatch              jobs to QPUs: connections, failover, retries
    account, limits       what was used, and when that is too much
    progress              one JSON object a line for the supervisor, a readable line for people

Importing this package imports nothing else: a cold start is counted in tenths of a second.
"""
