"""A Confluent-compatible schema registry in memory, over real HTTP, with faults on request.

Behaviour after the API reference of Confluent Schema Registry: ids are global (one text, one id, whatever the
subject), versions count per subject, registering again answers the same id; texts are written anew the way
Avro for Java prints a schema; the answers' media type and error codes 40401 (subject), 40402 (version), 40403
(schema), 40408 (no level of its own), 409, 42201 (schema), 42203 (level), 401, 415.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from schemas.compatibility import backward_errors
from schemas.forms import SchemaFault

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
LEVELS = (
    "NONE",
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
)


class ApiFault(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Fault:
    """What the next request meets instead of an answer."""

    kind: str  # status, drop, silence, text
    status: int = 500
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class FakeRegistry:
    """The registry's state; `url` is where it listens. `level_needs_subject`: as some registries have it."""

    first_id: int = 1
    user: str = ""
    password: str = ""
    level_needs_subject: bool = False
    path: str = ""
    url: str = ""
    requests: list[str] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    schemas: dict[int, str] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def register(self, subject: str, text: str) -> int:
        with self.lock:
            printed = self._printed(text)
            known = self.subjects.get(subject, [])
            for schema_id in known:
                if self.schemas[schema_id] == printed:
                    return schema_id
            level = self.levels.get(subject, "BACKWARD")
            if known and level != "NONE":
                errors = backward_errors(json.loads(printed), json.loads(self.schemas[known[-1]]))
                if errors:
                    raise ApiFault(409, 409, f"Schema being registered is incompatible: {'; '.join(errors)}")
            schema_id = next((i for i, of in self.schemas.items() if of == printed), 0)
            schema_id = schema_id or max(self.schemas, default=self.first_id - 1) + 1
            self.schemas[schema_id] = printed
            self.subjects.setdefault(subject, []).append(schema_id)
            return schema_id

    def lookup(self, subject: str, text: str) -> dict[str, Any]:
        with self.lock:
            if subject not in self.subjects:
                raise ApiFault(404, 40401, f"Subject '{subject}' not found.")
            printed = self._printed(text)
            for version, schema_id in enumerate(self.subjects[subject], 1):
                if self.schemas[schema_id] == printed:
                    return {"subject": subject, "version": version, "id": schema_id, "schema": printed}
            raise ApiFault(404, 40403, "Schema not found")

    def compatible(self, subject: str, text: str) -> dict[str, Any]:
        if subject not in self.subjects:
            raise ApiFault(404, 40401, f"Subject '{subject}' not found.")
        latest = self.schemas[self.subjects[subject][-1]]
        return {"is_compatible": not backward_errors(json.loads(self._printed(text)), json.loads(latest))}

    def get_schema(self, schema_id: int) -> dict[str, Any]:
        if schema_id not in self.schemas:
            raise ApiFault(404, 40403, f"Schema {schema_id} not found")
        return {"schema": self.schemas[schema_id]}

    def get_level(self, subject: str) -> dict[str, Any]:
        if subject not in self.levels:
            raise ApiFault(404, 40408, f"Subject '{subject}' does not have subject-level compatibility")
        return {"compatibilityLevel": self.levels[subject]}

    def put_level(self, subject: str, level: Any) -> dict[str, Any]:
        if level not in LEVELS:
            raise ApiFault(422, 42203, "Invalid compatibility level")
        if self.level_needs_subject and subject not in self.subjects:
            raise ApiFault(404, 40401, f"Subject '{subject}' not found.")
        self.levels[subject] = level
        return {"compatibility": level}

    @staticmethod
    def _printed(text: Any) -> str:
        try:
            schema = json.loads(text)
            parse_schema(schema, named_schemas={})
        except (ValueError, TypeError, KeyError, SchemaParseException, UnknownType, SchemaFault) as cause:
            raise ApiFault(422, 42201, f"Input schema is an invalid Avro schema: {cause}") from None
        return json.dumps(printed(schema), separators=(",", ":"))


def printed(schema: Any, namespace: str = "") -> Any:
    """`schema` as Avro for Java prints it: name and namespace apart, names short where the namespace is the
    one around them; keys in its own order."""
    if isinstance(schema, str):
        return schema.removeprefix(f"{namespace}.") if namespace else schema
    if isinstance(schema, list):
        return [printed(branch, namespace) for branch in schema]
    made = {key: value for key, value in schema.items() if key not in ("type", "name", "namespace", "fields")}
    kind = schema["type"]
    if kind in ("record", "enum", "fixed"):
        space, _, name = schema["name"].rpartition(".")
        space = space or schema.get("namespace", namespace)
        head = {"type": kind, "name": name, **({"namespace": space} if space != namespace else {})}
        if "aliases" in made:
            made["aliases"] = [alias.removeprefix(f"{space}.") for alias in made["aliases"]]
        if kind == "record":
            head["fields"] = [{**of, "type": printed(of["type"], space)} for of in schema["fields"]]
        return {**head, **made}
    for key in ("items", "values"):
        if key in made:
            made[key] = printed(made[key], namespace)
    return {"type": printed(kind, namespace), **made}


class _Handler(BaseHTTPRequestHandler):
    registry: FakeRegistry
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_GET

    def _handle(self) -> None:
        fake = self.registry
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = urlsplit(self.path).path
        with fake.lock:
            fake.requests.append(f"{self.command} {path}")
            fault = fake.faults.popleft() if fake.faults else None
        if fault is not None:
            self._fail(fault)
            return
        try:
            self._admit()
            if not path.startswith(f"{fake.path}/"):
                raise ApiFault(404, 404, "HTTP 404 Not Found")
            parts = [unquote(part) for part in path[len(fake.path) :].strip("/").split("/")]
            self._answer(200, self._route(parts, json.loads(content) if content else None))
        except ApiFault as error:
            self._answer(error.status, {"error_code": error.code, "message": error.message})

    def _admit(self) -> None:
        fake = self.registry
        if fake.user:
            wanted = base64.b64encode(f"{fake.user}:{fake.password}".encode()).decode()
            if self.headers.get("Authorization") != f"Basic {wanted}":
                raise ApiFault(401, 401, "Unauthorized")
        kinds = (MEDIA_TYPE, "application/vnd.schemaregistry+json", "application/json")
        if self.command != "GET" and self.headers.get("Content-Type") not in kinds:
            raise ApiFault(415, 415, "HTTP 415 Unsupported Media Type")

    def _route(self, parts: list[str], body: Any) -> Any:
        fake = self.registry
        routes: dict[tuple[str, ...], Callable[[], Any]] = {
            ("GET", "subjects"): lambda: sorted(fake.subjects),
            ("GET", "schemas", "ids"): lambda: fake.get_schema(int(parts[2])),
            ("POST", "subjects"): lambda: fake.lookup(parts[1], body["schema"]),
            ("POST", "subjects", "versions"): lambda: {"id": fake.register(parts[1], body["schema"])},
            ("POST", "compatibility", "subjects", "versions", "latest"): lambda: fake.compatible(
                parts[2], body["schema"]
            ),
            ("GET", "config"): lambda: fake.get_level(parts[1]),
            ("PUT", "config"): lambda: fake.put_level(parts[1], body["compatibility"]),
        }
        fixed = {
            "schemas": parts[:2], "subjects": [parts[0], *parts[2:]], "config": parts[:1],
            "compatibility": [*parts[:2], *parts[3:]],
        }.get(parts[0], parts)  # fmt: skip
        route = routes.get((self.command, *fixed))
        if route is None:
            raise ApiFault(404, 404, "HTTP 404 Not Found")
        return route()

    def _answer(self, status: int, body: Any) -> None:
        self._send(status, json.dumps(body).encode(), {"Content-Type": MEDIA_TYPE})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _fail(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.kind == "silence":
            time.sleep(fault.seconds)
        elif fault.kind == "text":
            self._send(fault.status, fault.text.encode(), {"Content-Type": "text/html", **fault.headers})
        elif fault.kind == "status":
            body = json.dumps({"error_code": 50003, "message": "Error while forwarding"}).encode()
            self._send(fault.status, body, {"Content-Type": MEDIA_TYPE, **fault.headers})


@contextmanager
def serve(fake: FakeRegistry, port: int = 0) -> Iterator[FakeRegistry]:
    """`fake` on a port of this machine; `fake.url` tells it, credentials included."""
    handler = type("Handler", (_Handler,), {"registry": fake})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    credentials = f"{fake.user}:{fake.password}@" if fake.user else ""
    fake.url = f"http://{credentials}127.0.0.1:{server.server_address[1]}{fake.path}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
