"""Which QPU the next iteration of a session runs on: its own, unless that one would make it wait for long.

A session has a home, the device that it was placed on and whose caches are warm for it. While the home is
calibrating, past the session's limit, draining or down, iterations go to the best other device, warm first.
But a home that is only past the limit is kept if renewing it takes at most `renewal_share` of the limit: the
localised calibration is paid once in a limit's time, while on another device the session meets the loops
that live there in every iteration. (Simulated with six loops on three devices, leaving for it doubled TTNS.)

When the home is well again the session returns as soon as that is worth it:

- A move costs something (cold caches, a transpilation, on a twin nothing else), so the session only goes back
  when the home's expected cost, renewal aside, is lower than the current device's by at least `gain_s`. With
  0 it returns to a home that is as good: placement spread the loops over the devices, and queues at the
  moment do not show the loops that compute.
- After a move it stays for at least `dwell_s`, unless the device it is on becomes unusable.

Together these bound the number of moves in any time t to 1 + t / dwell_s plus the number of times that a
device in use became unusable: routing cannot flap on noise in the estimates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from efaas.core.placement import DeviceView, Health, Placement, Request, place


@dataclass(frozen=True, slots=True)
class Route:
    """Where the next iteration goes."""

    device: str | None
    """None: nowhere now; `reason` says why."""
    reason: str
    moved: bool
    """Whether this differs from where the last iteration went."""


class Router:
    """Routes the iterations of one session; holds its home, where it is, and since when.

    Args:
        home: device the session was placed on.
        gain_s: least saving, in device seconds for each iteration, that makes a voluntary move worth it.
        dwell_s: device seconds that a session stays after a move unless it must leave.
        renewal_share: most of the session's limit that renewing its home's calibration may take.
    """

    def __init__(
        self, home: str, *, gain_s: float = 0.0, dwell_s: float = 30.0, renewal_share: float = 0.1
    ) -> None:
        if gain_s < 0 or dwell_s < 0 or renewal_share < 0:
            raise ValueError(
                f"gain_s {gain_s}, dwell_s {dwell_s} and renewal_share {renewal_share} must not be negative"
            )
        self._renewal_share = renewal_share
        self.home = home
        self.current = home
        self._gain_s = gain_s
        self._dwell_s = dwell_s
        self._moved_at_s = float("-inf")

    def route(self, now_s: float, request: Request, devices: Iterable[DeviceView]) -> Route:
        """Decide where the next iteration goes.

        Args:
            now_s: device time.
            request: what the session needs; its circuit's handle decides which caches are warm.
            devices: all devices as last reported.
        """
        views = {device.name: device for device in devices}
        placement = place(request, [_with_a_slot_of_its_own(view, self.current) for view in views.values()])
        costs = {score.device: score.cost_s for score in placement.scores}
        usable = {name for name in costs if _usable_now(views[name], request)}
        if self.home in costs and self._renewable(views[self.home], request):
            usable.add(self.home)
            costs[self.home] -= views[self.home].local_calibration_s
        if self.current in usable:
            if self.current == self.home or not self._worth_going_home(now_s, costs, usable):
                return Route(self.current, "own device" if self.current == self.home else "away", moved=False)
            return self._move(now_s, self.home, f"{self.home} is usable again")
        why = self._why_not(self.current, views, placement)
        for score in placement.scores:
            if score.device in usable:
                return self._move(now_s, score.device, why)
        return self._wait(placement, why)

    def _worth_going_home(self, now_s: float, costs: dict[str, float], usable: set[str]) -> bool:
        rested = now_s - self._moved_at_s >= self._dwell_s
        return rested and self.home in usable and costs[self.home] + self._gain_s <= costs[self.current]

    def _renewable(self, home: DeviceView, request: Request) -> bool:
        """Whether the home is only past the limit, and renewing it is cheap for what it is good for."""
        limit_s = _limit_s(home, request)
        return (
            home.health is Health.READY
            and home.calibrates_on_need
            and home.calibration_age_s > limit_s
            and home.local_calibration_s <= self._renewal_share * limit_s
        )

    def _move(self, now_s: float, device: str, reason: str) -> Route:
        self.current = device
        self._moved_at_s = now_s
        return Route(device, reason, moved=True)

    def _wait(self, placement: Placement, why: str) -> Route:
        """No device can run the iteration at once: queue where that will be soonest, or nowhere."""
        if any(score.device == self.current for score in placement.scores):
            return Route(self.current, f"{why}; no other device can take it", moved=False)
        return Route(None, placement.reason or why, moved=False)

    def _why_not(self, name: str, views: dict[str, DeviceView], placement: Placement) -> str:
        if name not in views:
            return f"{name} is gone"
        for refusal in placement.refusals:
            if refusal.device == name:
                return f"{name}: {refusal.reason}"
        if views[name].health is Health.CALIBRATING:
            return f"{name} is calibrating"
        return f"{name} is past the calibration age limit"


def _with_a_slot_of_its_own(view: DeviceView, current: str) -> DeviceView:
    """The session already holds a slot where it is; that must not count against it."""
    if view.name != current:
        return view
    return replace(view, slots_used=max(0, view.slots_used - 1))


def _usable_now(view: DeviceView, request: Request) -> bool:
    """Whether an iteration would run without a calibration before it."""
    return view.health is Health.READY and view.calibration_age_s <= _limit_s(view, request)


def _limit_s(view: DeviceView, request: Request) -> float:
    limit_s = view.max_calibration_age_s
    if request.max_calibration_age_s is not None:
        limit_s = min(limit_s, request.max_calibration_age_s)
    return limit_s
