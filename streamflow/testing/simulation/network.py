"""A network between simulated processes: slow by chance, in order on each connection, cut now and then.

A cut holds up what is on its way: it comes when the cut is over, however much has happened meanwhile, also at a
process that has closed the connection, as it would out of a socket's buffer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context

from streamflow.testing.simulation.chance import Chance
from streamflow.testing.simulation.loop import PROCESS, SimLoop, host_of
from streamflow.testing.workers.network import End, Link, Network

__all__ = ["SimNetwork"]


class SimNetwork(Network):
    """The network of one loop; `mean` is the usual time of a message on its way, in seconds."""

    def __init__(self, loop: SimLoop, chance: Chance, mean: float) -> None:
        super().__init__()
        self._loop = loop
        self._chance = chance
        self._mean = mean
        self._listeners: dict[str, str] = {}
        """The process that listens at each address."""
        self._links: list[_SimLink] = []
        self._cuts: dict[tuple[str, str], int] = {}
        """The number of cuts of the way from one machine to another."""
        self._held: list[tuple[tuple[str, str], Callable[[], None]]] = []
        """Events that wait until a way is open again."""

    def cut(self, sender: str, receiver: str) -> None:
        """Cuts the way from one machine to another."""
        self._cuts[sender, receiver] = self._cuts.get((sender, receiver), 0) + 1

    def heal(self, sender: str, receiver: str) -> None:
        """Ends a cut: everything that was held up comes now."""
        self._cuts[sender, receiver] -= 1
        if not self._cuts[sender, receiver]:
            del self._cuts[sender, receiver]
            held, self._held = self._held, []
            for way, event in held:
                self.after(way, event)

    def died(self, process: str, *, notice: bool) -> None:
        """Ends a process's connections: with `notice` at once for the others, otherwise they never hear of it."""
        for address in [address for address, of in self._listeners.items() if of == process]:
            self.unlisten(address)
        left: list[_SimLink] = []
        for link in self._links:
            if process in (link.sender, link.receiver):
                link.owner_died(process, notice=notice)
            else:
                left.append(link)
        self._links = left

    def listen(self, address: str, accept: Callable[[End], None]) -> None:
        super().listen(address, accept)
        self._listeners[address] = PROCESS.get()

    def unlisten(self, address: str) -> None:
        super().unlisten(address)
        self._listeners.pop(address, None)

    async def connect(self, address: str) -> End:
        here, there = host_of(PROCESS.get()), host_of(self._listeners.get(address, address))
        come: asyncio.Future[None] = self._loop.create_future()
        self.after((here, there), lambda: None if come.done() else come.set_result(None))
        await come
        return await super().connect(address)

    def ends(self, address: str) -> tuple[End, End]:
        here, there = PROCESS.get(), self._listeners[address]
        to, back = _SimLink(self, here, there), _SimLink(self, there, here)
        self._links += [to, back]
        return End(to, back), End(back, to)

    def after(self, way: tuple[str, str], event: Callable[[], None]) -> None:
        """Lets something happen at the end of a way, which takes a while, once it is open."""
        self._loop.call_later(self._chance.wait(self._mean), self._come, way, event, context=Context())

    def _come(self, way: tuple[str, str], event: Callable[[], None]) -> None:
        if way in self._cuts:
            self._held.append((way, event))
        else:
            event()


class _SimLink(Link):
    def __init__(self, network: SimNetwork, sender: str, receiver: str) -> None:
        super().__init__()
        self.sender = sender
        self.receiver = receiver
        self._network = network
        self._way = host_of(sender), host_of(receiver)
        self._under_way: deque[bytes | None] = deque()

    def carry(self, message: bytes | None) -> None:
        self._under_way.append(message)
        self._network.after(self._way, self._next)

    def break_off(self) -> None:
        # The sender learns of it when word has come back.
        self._network.after((self._way[1], self._way[0]), super().break_off)

    def owner_died(self, process: str, *, notice: bool) -> None:
        """Notes the end of the process at one of the ends."""
        if process == self.sender:
            if notice:
                self.close()
        elif notice:
            self.break_off()

    def _next(self) -> None:
        """The first message on the way comes, whichever it was that took so long."""
        if self._under_way:
            self.arrive(self._under_way.popleft())
