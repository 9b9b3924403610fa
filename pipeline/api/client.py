"""Who asks: the client behind an API key, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

SERVICE = "service"  # may write every event, of every user
ROOT = "root"  # may read everything
WRITE = "write"  # <domain>:write: may send events of a domain
READ = "read"  # gas:read, positions:read, tokens:read, anchors:read, bank:read


@dataclass(frozen=True, slots=True)
class Client:
    """An authenticated client. `user_id` is the user whose own events it may send; "" for services."""

    id: str
    user_id: str = ""
    scopes: frozenset[str] = frozenset()
    rate_per_s: float = 0  # requests a second; 0: the default

    def may(self, scope: str) -> bool:
        """Whether it has a scope; service and root have those they stand for."""
        if scope in self.scopes or (SERVICE in self.scopes and scope.endswith(f":{WRITE}")):
            return True
        return ROOT in self.scopes and scope.endswith(f":{READ}")


class ApiError(Exception):
    """An answer that is not what was asked: its status, a reason in one word, the field at fault, one line."""

    def __init__(self, status: int, reason: str, detail: str, field: str = "", **headers: str) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail, self.field = status, reason, detail, field
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def current(request: Request) -> Client | None:
    """The client of a request, None without a key. Set by the app's own middleware."""
    client: Client | None = getattr(request.state, "client", None)
    return client


def required(request: Request, scope: str = "") -> Client:
    """The same; raises ApiError 401 without a key, 403 outside the scope."""
    client = current(request)
    if client is None:
        raise ApiError(
            401, "unauthorized", "send an API key: Authorization: Bearer <key>", WWW_Authenticate="Bearer"
        )
    if scope and not client.may(scope):
        raise ApiError(403, "forbidden", f"this key lacks the scope {scope}")
    return client
