"""The facade: a swarm, its results, and the DB-API connection. `import murmur` shows all of it."""

from murmur.swarm.result import Result
from murmur.swarm.swarm import Swarm, open  # noqa: A004 - murmur.open
from murmur.swarm.transaction import Batch, SwarmTransaction

__all__ = ["Batch", "Result", "Swarm", "SwarmTransaction", "open"]
