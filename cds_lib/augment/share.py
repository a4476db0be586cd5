"""The part of a batch, or of the evaluation images, that belongs to a process."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Part `rank` of `world` contiguous parts of nearly equal size. A single process has everything."""

    rank: int = 0
    world: int = 1

    def of(self, count: int, rank: int | None = None) -> slice:
        """Return the part of `count` images of this process, or of process `rank`. All parts make up the whole, in
        order. The first parts are the larger ones, so only later processes can be without an image."""
        rank = self.rank if rank is None else rank
        size, rest = divmod(count, self.world)
        start = rank * size + min(rank, rest)
        return slice(start, start + size + (rank < rest))


WHOLE = Share()
