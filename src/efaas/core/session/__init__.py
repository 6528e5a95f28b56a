"""The life of one session, from request to end, as a machine without clock, network or threads."""

from efaas.core.session.machine import SessionMachine
from efaas.core.session.messages import Policy, ProtocolError, SessionState
from efaas.core.session.record import InvariantError, SessionRecord

__all__ = ["InvariantError", "Policy", "ProtocolError", "SessionMachine", "SessionRecord", "SessionState"]
