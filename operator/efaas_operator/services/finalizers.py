"""The operator's finalizer on sessions: put on before there is a runner, taken off when the devices let go.

Finalizers are one list that others write to as well, so it is written with the version that was read: what
somebody added meanwhile is not lost, and the look that failed is simply taken again.
"""

from __future__ import annotations

from efaas_operator import paths
from efaas_operator.kubernetes import ApiError, Document, KubernetesApi, NotFound
from efaas_operator.settings import FINALIZER
from efaas_operator.world import World


class Finalizers:
    """The finalizer of sessions.

    Args:
        api: the API server.
        world: what is known; answers of own calls go there at once.
    """

    def __init__(self, api: KubernetesApi, world: World) -> None:
        self._api = api
        self._world = world

    async def hold(self, session: Document) -> None:
        """Put it on, unless the session is being deleted already.

        Raises:
            Conflict: somebody has written meanwhile.
        """
        there = session["metadata"].get("finalizers") or []
        if FINALIZER not in there and not session["metadata"].get("deletionTimestamp"):
            await self._set(session, [*there, FINALIZER])

    async def let_go(self, key: str) -> None:
        """Take it off.

        Raises:
            Conflict: somebody has written meanwhile.
        """
        session = self._world.sessions.get(key)
        there = (session["metadata"].get("finalizers") or []) if session is not None else []
        if session is not None and FINALIZER in there:
            await self._set(session, [each for each in there if each != FINALIZER])

    async def _set(self, session: Document, finalizers: list[str]) -> None:
        metadata = session["metadata"]
        path = paths.session(metadata["namespace"], metadata["name"])
        body = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
        try:
            changed = await self._api.patch(path, body)
        except NotFound:
            self._world.sessions.gone(session)
            return
        except ApiError as error:
            if error.status == 409:
                self._world.sessions.put(await self._api.get(path))
            raise
        if changed["metadata"].get("deletionTimestamp") and not finalizers:
            self._world.sessions.gone(changed)
        else:
            self._world.sessions.put(changed)
