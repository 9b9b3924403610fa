"""A schema registry by its Confluent-compatible API: which id stands for which schema, asked over HTTP.

Ids belong to a registry: the wire id of a schema is whatever the configured registry gave it, so nothing but
that registry may answer for a topic's messages. A registry also writes a schema's text anew (short names,
spaces, order of keys); what is compared and handed on is the resolution form, which does not change by that.
An id or a schema, once known, stays what it is, so each is asked for once.

What fails for a while (no connection, 429, 5xx) is tried again; what stays is one line that names the setting
and never a password. A registry that cannot be reached is no fault of a message: it is a RegistryError, not a
WireError, so that nothing is quarantined for it.

Source: Confluent Schema Registry API reference: POST /subjects/{subject} (40401, 40403), GET
/schemas/ids/{id} (40403); schema `references` are not used.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx
import tenacity

from schemas.codec import Undecodable
from schemas.forms import SchemaFault, resolution_form
from schemas.registry import NotRegistered, Registry, UnknownSchema, local_registry

SETTING: Final = "TIDEBOOK_SCHEMA_REGISTRY_URL"
MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
SUBJECT_NOT_FOUND: Final = 40401
SCHEMA_NOT_FOUND: Final = 40403
TIMEOUT_S: Final = 5.0  # of one connection, one answer
PATIENCE_S: Final = 8.0  # of all tries for one answer; below the session of a worker that waits for it
UNKNOWN_FOR_S: Final = 5.0  # an id not found is not asked for again so soon
ID_MAX: Final = 2**31 - 1
_PASSING_STATUS: Final = frozenset({408, 425, 429})


class RegistryError(RuntimeError):
    """The registry cannot be reached, refuses, or answers nonsense; the text names the setting and address."""

    def __init__(self, address: str, detail: object) -> None:
        super().__init__(f"{SETTING}={address}: {detail}")


class ApiError(RegistryError):
    """An error that the API defines: HTTP `status`, `code` (40401, 42201, …; the status where it gives none)."""

    def __init__(self, address: str, status: int, code: int, said: str) -> None:
        super().__init__(address, f"answers {code}: {said}")
        self.status, self.code, self.said = status, code, said


class _Passing(RegistryError):
    """Worth another try. `after_s`: what the registry asks to wait."""

    def __init__(self, address: str, detail: object, after_s: float = 0.0) -> None:
        super().__init__(address, detail)
        self.after_s = after_s


class Client:
    """Asks one registry. Threads may share it; it never gives up before `patience_s` on what may pass."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url`: http(s)://[user:password@]host[:port][/path]. Raises RegistryError for any other."""
        self.address, base, auth = _parts(url)
        self._patience_s = patience_s
        self._http = httpx.Client(
            base_url=base,
            auth=auth,
            timeout=timeout_s,
            transport=transport,
            headers={"Accept": f"{MEDIA_TYPE}, application/json", "User-Agent": "tidebook"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str) -> Any:
        """JSON at `path`. Raises ApiError for what the API refuses, RegistryError for all else."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to `body`; every POST of this API may be repeated. Raises as `get`."""
        return self._ask("POST", path, body)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to `body`. Raises as `get`."""
        return self._ask("PUT", path, body)

    def malformed(self, path: str, detail: object) -> RegistryError:
        """The error of an answer that is not what the API promises."""
        return RegistryError(
            self.address, f"{path} answers what no schema registry does ({detail}): right host and path?"
        )

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_before_delay(self._patience_s),
            wait=_wait,
            reraise=True,
        )
        return tries(self._once, method, path, body)

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers = {} if body is None else {"Content-Type": MEDIA_TYPE}
        try:
            answer = self._http.request(method, path, content=content, headers=headers)
        except httpx.TransportError as cause:
            why = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
            kind = RegistryError if "SSL" in why or isinstance(cause, httpx.ProxyError) else _Passing
            raise kind(self.address, f"cannot be reached ({why})") from None
        except httpx.HTTPError as cause:  # an answer that cannot be decoded
            raise self.malformed(path, type(cause).__name__) from None
        if answer.is_success:
            return self._json(path, answer)
        raise self._refusal(path, answer)

    def _json(self, path: str, answer: httpx.Response) -> Any:
        try:
            return json.loads(answer.content)
        except ValueError:
            kind = answer.headers.get("content-type", "no content type")
            raise self.malformed(path, f"{answer.status_code}, {kind}, not JSON") from None

    def _refusal(self, path: str, answer: httpx.Response) -> RegistryError:
        """The error of an answer that is no success."""
        status = answer.status_code
        code, said = _error_of(answer)
        if status in _PASSING_STATUS or status >= 500:
            return _Passing(self.address, f"answers {code or status}: {said}", _retry_after_s(answer))
        if status == 401:
            return RegistryError(
                self.address, "refuses these credentials (401): set user:password@ before the host"
            )
        if status == 403:
            return RegistryError(self.address, f"forbids {path} to this user (403)")
        if answer.is_redirect:
            return RegistryError(
                self.address, f"has moved ({status}): set the address that it is served at now"
            )
        if status == 404 and code // 100 != 404:
            return self.malformed(path, "404 without an error code")
        if code:
            return ApiError(self.address, status, code, said)
        return self.malformed(path, f"{status} without an error code")


class HttpRegistry:
    """`schemas.registry.Registry` over HTTP. Keeps every answer; threads may share it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._schemas: dict[int, Any] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._unknown: dict[int, float] = {}  # id -> monotonic time until which it is not asked for again

    def by_id(self, schema_id: int) -> Any:
        """Resolution form of the schema. Raises UnknownSchema, Undecodable (no Avro), RegistryError."""
        if schema_id in self._schemas:
            return self._schemas[schema_id]
        if schema_id > ID_MAX or self._unknown.get(schema_id, 0.0) > time.monotonic():
            raise UnknownSchema(schema_id)
        path = f"/schemas/ids/{schema_id}"
        try:
            answer = self._client.get(path)
        except ApiError as error:
            if error.code // 100 != 404:
                raise
            self._unknown[schema_id] = time.monotonic() + UNKNOWN_FOR_S
            raise UnknownSchema(schema_id) from None
        found = self._form(path, answer, f"schema id {schema_id}")
        self._schemas[schema_id] = found
        return found

    def id_of(self, subject: str, schema: Any) -> int:
        """Id of `schema` (resolution form) under `subject`. Raises NotRegistered, RegistryError."""
        text = schema_text(schema)
        known = self._ids.get((subject, text))
        if known is not None:
            return known
        found = self.version_of(subject, schema)
        if found is None:
            raise NotRegistered(
                f"{SETTING}={self._client.address}: {subject}: this schema is not registered; "
                "run `tidebook schemas register`"
            )
        self._ids[subject, text] = found[0]
        return found[0]

    def version_of(self, subject: str, schema: Any) -> tuple[int, int] | None:
        """(id, version under `subject`) as the registry has it now; None if it has not. Raises RegistryError."""
        path = f"/subjects/{quote(subject, safe='')}"
        try:
            answer = self._client.post(path, {"schema": schema_text(schema), "schemaType": "AVRO"})
        except ApiError as error:
            if error.code in (SUBJECT_NOT_FOUND, SCHEMA_NOT_FOUND):
                return None
            raise
        try:
            same = self._form(path, answer, subject) == schema
        except Undecodable as fault:
            raise self._client.malformed(path, fault) from None
        if not same:
            raise self._client.malformed(path, "another schema than was looked up")
        return self.number(path, answer, "id"), self.number(path, answer, "version")

    def number(self, path: str, answer: Any, name: str) -> int:
        """The whole number `name` of an answer. Raises RegistryError."""
        value = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= ID_MAX:
            raise self._client.malformed(path, f"{name} is {value!r:.40}")
        return value

    def mismatch(self, subject: str, version: int, schema_id: int) -> RegistryError:
        """The error of a registry that has another schema, or none, under the id it gave to ours."""
        return RegistryError(
            self._client.address, f"{subject} version {version}: id {schema_id} stands for another schema"
        )

    def _form(self, path: str, answer: Any, what: str) -> Any:
        """Resolution form of the schema in an answer. Raises RegistryError, Undecodable naming `what`."""
        text = answer.get("schema") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise self._client.malformed(path, "no schema in it")
        if answer.get("schemaType", "AVRO") != "AVRO":
            raise Undecodable(f"{what}: a {answer['schemaType']} schema, not Avro")
        if answer.get("references"):
            raise Undecodable(f"{what}: refers to other schemas, which is not read")
        try:
            return resolution_form(_parsed(text))
        except (SchemaFault, KeyError, TypeError, AttributeError) as cause:
            raise Undecodable(f"{what}: no Avro schema: {cause}") from None


def open_registry(url: str) -> Registry:
    """The registry at `url`, or the one that ships with the package where that is empty. Raises RegistryError
    for an address that cannot be one; nothing is asked yet."""
    return HttpRegistry(Client(url)) if url else local_registry()


def schema_text(schema: Any) -> str:
    """The text that stands for a schema in requests: the same one whenever it is registered or looked up."""
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)


def _parsed(text: str) -> Any:
    """A schema's JSON; a text that is no JSON is a bare name of a type, as some registries give it."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def _parts(url: str) -> tuple[str, httpx.URL, tuple[str, str] | None]:
    """(address to show, base without credentials, credentials). Raises RegistryError."""
    try:
        parsed = httpx.URL(url.strip())
        if not 0 < (parsed.port or 1) < 65536:
            raise ValueError
    except (httpx.InvalidURL, ValueError):
        raise RegistryError("…", "is no URL; give http(s)://[user:password@]host:port") from None
    base = parsed.copy_with(username=None, password=None, query=None, fragment=None)
    address = str(base).rstrip("/")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        shown = address if parsed.host else "…"
        raise RegistryError(shown, "is no address of a registry; give http(s)://[user:password@]host:port")
    auth = (parsed.username, parsed.password) if parsed.userinfo else None
    return address, base, auth


def _error_of(answer: httpx.Response) -> tuple[int, str]:
    """(error_code, 0 where there is none; message in one line)."""
    try:
        error = json.loads(answer.content)
    except ValueError:
        error = None
    if not isinstance(error, dict):
        return 0, answer.reason_phrase or "no message"
    code = error.get("error_code")
    said = " ".join(str(error.get("message") or answer.reason_phrase).split())
    return (code if isinstance(code, int) and not isinstance(code, bool) else 0), said[:300]


def _retry_after_s(answer: httpx.Response) -> float:
    with contextlib.suppress(ValueError):
        return max(0.0, float(answer.headers.get("retry-after", "0")))
    return 0.0


_BACKOFF: Final = tenacity.wait_exponential(multiplier=0.1, max=2.0) + tenacity.wait_random(0, 0.2)


def _wait(state: tenacity.RetryCallState) -> float:
    """Ever longer with jitter, or as long as the registry asks for."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.after_s if isinstance(error, _Passing) else 0.0
    return max(asked, _BACKOFF(state))
