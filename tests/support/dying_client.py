"""A client that is cut off at one of its statements, as if its process had been killed there."""

from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and tidy up."""


class DyingClient:
    """A client that dies before or after its n-th statement."""

    def __init__(self, client: Any, statements: int, after: bool) -> None:
        self._client, self._left, self._after = client, statements, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _counted(self, call: Callable[..., Any], *args: Any, **values: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        answer = call(*args, **values)
        if self._left == 0:
            raise Killed
        return answer

    def command(self, *args: Any) -> Any:
        return self._counted(self._client.command, *args)

    def query(self, *args: Any) -> Any:
        return self._counted(self._client.query, *args)

    def insert(self, *args: Any, **values: Any) -> Any:
        return self._counted(self._client.insert, *args, **values)

    def raw_insert(self, *args: Any, **values: Any) -> Any:
        return self._counted(self._client.raw_insert, *args, **values)
