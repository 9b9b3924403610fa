"""Nothing personal enters the token ledger's topic, whatever field or part of the envelope would hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.catalog.tokens import TOKENS
from pipeline.domain.applications.event import AppEvent, Refusal
from pipeline.domain.tokens.impersonal import TITLES
from tests.support.applications import event_of

GOLDEN = Path(__file__).parents[1] / "golden" / "tokens"
PERSONAL = (
    "Maria da Silva",
    "maria@example.org",
    "+55 11 91234-5678",
    "epilepsy, since 2019",
    "rua das Flores/7",
)

NO_TEXT = ("_at", "_days", "_until", "seats")  # fields that are null or a number


def golden(type: str) -> AppEvent:
    """The event of a type's first golden case."""
    return event_of(TOKENS, orjson.loads((GOLDEN / f"{type}.json").read_bytes())["event"], "e")


def with_text(value: Any, text: str, path: str = "data") -> Iterator[tuple[str, Any]]:
    """(field, record) with each text of a record in turn replaced."""
    if isinstance(value, Mapping):
        for name, of in value.items():
            for at, changed in with_text(of, text, f"{path}.{name}"):
                yield at, {**value, name: changed}
    elif isinstance(value, list):
        for place, of in enumerate(value):
            for at, changed in with_text(of, text, path):
                yield at, [*value[:place], changed, *value[place + 1 :]]
    elif isinstance(value, str) or (value is None and not path.endswith(NO_TEXT)):
        yield path, text


def refused(told: AppEvent) -> Refusal:
    check = TOKENS.types[told.type].check
    assert check is not None
    with pytest.raises(Refusal) as info:
        check(told)
    return info.value


@pytest.mark.parametrize("type", TOKENS.types)
def test_no_field_of_any_type_takes_free_text(type: str) -> None:
    told = golden(type)
    for text in PERSONAL:
        for path, data in with_text(dict(told.data), text):
            if path.rpartition(".")[2] in TITLES and text not in PERSONAL[1:3]:
                continue  # a title is words
            assert refused(replace(told, data=data)).field.startswith("data."), (path, text)


@pytest.mark.parametrize("text", PERSONAL)
def test_nor_does_the_envelope(text: str) -> None:
    told = golden("CREDIT_ISSUED")
    for field, name in (("account_id", "key"), ("user_id", "user_id"), ("app_id", "app_id")):
        assert refused(replace(told, **{name: text})).field == field
    if " " in text or "@" in text:
        assert refused(replace(told, idempotency_key=text)).field == "idempotency_key"


def test_a_member_is_a_reference() -> None:
    told = golden("ACCOUNT_OPENED")
    data = {**told.data, "owner_type": "member", "owner_id": "maria_da_silva"}
    found = refused(replace(told, data=data))
    assert (found.reason, found.field) == ("not_a_reference", "data.owner_id")
