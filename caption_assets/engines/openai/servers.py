"""Several servers of one model: whose turn it is, which are left alone for a while, and when all are gone.

Each server has a circuit breaker. It is closed while the server answers, opens after `Patience.failures` failures in a
row, and lets one request through as a probe when its pause is over (half open): the probe's success closes it, its
failure opens it again for twice as long. A server that says how long to wait (429 with Retry-After) is left alone for
that long; that is no failure.

Times are seconds of one monotonic clock, given by the caller.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Patience:
    """How long is waited for what, in seconds.

    backoff_s, backoff_max_s: the pause before the k-th retry is drawn evenly from the upper half of
        min(backoff_max_s, backoff_s · 2^(k-1)): jitter keeps requests that failed together from coming back together.
    failures, pause_s, pause_max_s: the circuit breaker.
    retry_after_max_s: longest pause that a server may ask for.
    down_s: all servers failing for so long end the engine.
    connect_s: longest wait for a connection.
    """

    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    failures: int = 5
    pause_s: float = 1.0
    pause_max_s: float = 30.0
    retry_after_max_s: float = 600.0
    down_s: float = 120.0
    connect_s: float = 10.0

    def backoff(self, retry: int, draw: random.Random) -> float:
        """Return the pause before the `retry`-th retry, counted from 1."""
        longest = min(self.backoff_max_s, self.backoff_s * 2.0 ** min(retry - 1, 30))
        return draw.uniform(longest / 2, longest)


@dataclass
class Server:
    """One base URL and what is known about it.

    answered: it has answered a request of this engine well, so a later refusal is that request's own.
    fault: what went wrong last, for people.
    """

    url: str
    in_flight: int = 0
    failures: int = 0
    busy_until: float = 0.0
    open_until: float = 0.0
    pause_s: float = 0.0
    probing: bool = False
    answered: bool = False
    fault: str = ""

    def is_open(self, patience: Patience) -> bool:
        """Tell whether the breaker is open, probe or no probe."""
        return self.failures >= patience.failures

    @property
    def left_alone_until(self) -> float:
        """When the next request may go to it."""
        return max(self.busy_until, self.open_until)

    def works(self) -> None:
        """Close the breaker."""
        self.failures, self.pause_s, self.open_until = 0, 0.0, 0.0


@dataclass
class Servers:
    """The servers of one engine.

    Every `take` that returns a server is followed by one `succeeded`, `failed`, `busy` or `gave`.

    down_since: since when every breaker has been open; None while one is closed.
    """

    all: Sequence[Server]
    patience: Patience
    down_since: float | None = None
    _turn: int = field(default=0, repr=False)

    def take(self, now: float) -> Server | None:
        """Return the server whose turn it is among the least busy ones, None where all must be left alone now."""
        ready = [server for server in self._in_turn() if self._ready(server, now)]
        if not ready:
            return None
        chosen = min(ready, key=lambda server: server.in_flight)
        self._turn = (list(self.all).index(chosen) + 1) % len(self.all)
        chosen.in_flight += 1
        chosen.probing = chosen.is_open(self.patience)
        return chosen

    def wait_s(self, now: float) -> float:
        """Return how long none will be ready, unless a request that is under way ends before."""
        waits = [server.left_alone_until - now for server in self.all if not server.probing]
        if self.down_since is not None:
            waits.append(self.down_since + self.patience.down_s - now)
        return max(0.0, min(waits, default=self.patience.down_s))

    def all_down(self, now: float) -> bool:
        """Tell whether every server has been failing for longer than `Patience.down_s`."""
        return self.down_since is not None and now - self.down_since >= self.patience.down_s

    def succeeded(self, server: Server) -> None:
        """A request was served, or refused for what it is: the server works."""
        self.gave(server)
        server.works()
        self.down_since = None

    def failed(self, server: Server, now: float, fault: str) -> None:
        """A request was not served: no connection, no answer in time, an error of the server's own."""
        probe = server.probing
        self.gave(server)
        server.fault = fault
        server.failures += 1
        if not server.is_open(self.patience):
            return
        if probe or server.pause_s == 0:
            longer = 2 * server.pause_s or self.patience.pause_s
            server.pause_s = min(longer, self.patience.pause_max_s)
            server.open_until = now + server.pause_s
        if self.down_since is None and all(other.is_open(self.patience) for other in self.all):
            self.down_since = now

    def busy(self, server: Server, now: float, seconds: float | None) -> None:
        """The server asked to be left alone (429), for `seconds` where it said how long. It does answer."""
        self.succeeded(server)
        if seconds is not None:
            until = now + min(seconds, self.patience.retry_after_max_s)
            server.busy_until = max(server.busy_until, until)

    def gave(self, server: Server) -> None:
        """A request is over, or given up, without telling anything about the server."""
        server.in_flight -= 1
        server.probing = False

    def faults(self) -> str:
        """Return what went wrong last with each server."""
        return "; ".join(f"{server.url}: {server.fault or 'nothing known'}" for server in self.all)

    def _in_turn(self) -> list[Server]:
        return [*self.all[self._turn :], *self.all[: self._turn]]

    def _ready(self, server: Server, now: float) -> bool:
        return now >= server.left_alone_until and not (server.is_open(self.patience) and server.probing)


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number, or a date), None where it is not to be read."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        seconds = (when - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if seconds == seconds else None
