"""Which part of a batch, or of the images of an evaluation, belongs to a process."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Part `rank` of `world` contiguous parts of nearly equal size; of one process: everything."""

    rank: int = 0
    world: int = 1

    def of(self, count: int, rank: int | None = None) -> slice:
        """The part of `count` images, of this process or of another. The parts of all make up the whole, in order; the
        first ones are the larger, so that only later processes are ever without an image."""
        rank = self.rank if rank is None else rank
        size, rest = divmod(count, self.world)
        start = rank * size + min(rank, rest)
        return slice(start, start + size + (rank < rest))


WHOLE = Share()
