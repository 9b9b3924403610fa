"""The file of EVM chains: what it means, and one line for whatever is wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.domain.decode.evm_abi import event
from pipeline.domain.decode.evm_builtin import KINDS
from pipeline.ingest.evm.config import ChainConfig, ConfigError, read_config
from pipeline.ingest.evm.config_form import ChainForm, ContractForm, FactoryForm
from tests.support.truth import ROOT

TOKEN, FACTORY, PAYER = (f"0x{n:040x}" for n in (0xA0A, 0xFAC, 0xBA1))
EXAMPLE = ROOT / "deploy/evm.example.toml"
MADE = "Made(address indexed token, address creator)"
ABI = [
    {"type": "event", "name": "Made", "inputs": [{"name": "token", "type": "address", "indexed": True}]},
    {"type": "event", "name": "Named", "inputs": [{"name": "name", "type": "string", "indexed": False}]},
    {"type": "function", "name": "make", "inputs": []},
]
CHAIN = """
[[chain]]
name = "eip155:31337"
urls = ["http://127.0.0.1:8545"]
"""
CONTRACT = f"""
[[chain.contract]]
address = "{TOKEN}"
kind = "erc20"
start_block = 12
"""
MAKER = f"""
[[chain.factory]]
address = "{FACTORY}"
event = "{MADE}"
parameter = "token"
made_kind = "erc20"
start_block = 7
"""


def read(directory: Path, text: str, **environ: str) -> dict[str, ChainConfig]:
    path = directory / "evm.toml"
    path.write_text(text)
    return read_config(path, environ)


def fault(directory: Path, text: str, **environ: str) -> str:
    """The message, without the file's name; always one line that names the setting and the file."""
    with pytest.raises(ConfigError) as caught:
        read(directory, text, **environ)
    message = str(caught.value)
    start = f"setting TIDEBOOK_EVM_CONFIG={directory / 'evm.toml'}: "
    assert message.startswith(start) and "\n" not in message
    return message.removeprefix(start)


def test_what_is_left_out(tmp_path: Path) -> None:
    (config,) = read(tmp_path, CHAIN + CONTRACT + MAKER).values()
    assert (config.name, config.chain_id, config.urls) == ("eip155:31337", 31337, ("http://127.0.0.1:8545",))
    assert (config.confirmation, config.finality, config.final_depth, config.depth_limit) == (
        "head",
        "tag",
        0,
        64,
    )
    assert (config.level, config.start_block, config.burns, config.everything) == ("full", 7, True, False)
    assert (config.rate, config.parallel, config.log_range) == (25.0, 8, 2000)
    assert (config.timeout_s, config.poll_s, config.silence_s) == (10.0, 2.0, 12.0)
    assert config.treasuries == config.watched == config.exceptions == frozenset()
    (contract,), (factory,) = config.contracts, config.factories
    assert (contract.address, contract.start_block, contract.declared.standards) == (TOKEN, 12, {"erc20"})
    assert (factory.signature, factory.parameter, factory.start_block) == (
        "Made(address,address)",
        "token",
        7,
    )
    assert factory.made.standards == {"erc20"} and not factory.declared.standards
    assert config.decode_chain.everything is False


def test_the_example_tells_every_key_and_every_default() -> None:
    text = EXAMPLE.read_text()
    (config,) = read_config(EXAMPLE, {"ETHEREUM_NODE_KEY": "k"}).values()
    assert config.urls[0] == "https://ethereum-node.example/v3/k" and len(config.factories) == 1
    for form in (ChainForm, ContractForm, FactoryForm):
        for key in form.model_fields:
            assert re.search(rf"\b{key}\b", text), f"{key} is not explained"
    for kind in KINDS:
        assert kind in text
    for key, field in ChainForm.model_fields.items():
        if isinstance(field.default, str | int | float):  # written as it would be
            shown = json.dumps(field.default)
            assert f"\n{key} = {shown}\n" in text, f"{key} is not shown with its default {shown}"


def test_addresses_in_any_case_and_several_chains(tmp_path: Path) -> None:
    text = f"""
    [[chain]]
    name = "eip155:10"
    urls = ["wss://u:p@a.example/x", "http://b.example"]
    start_block = 0
    treasuries = ["{PAYER.upper().replace("X", "x")}"]
    watched = ["{PAYER}"]
    [[chain]]
    name = "eip155:11155111"
    urls = ["http://b.example"]
    start_block = 5
    everything = true
    burns = false
    """
    first, second = read(tmp_path, text).values()
    assert first.treasuries == first.watched == first.decode_chain.watched_addresses == {PAYER}
    assert (first.burns, second.burns) == (None, False)
    assert first.decode_chain.treasuries == {PAYER} and second.decode_chain.everything is True


def test_keys_come_from_the_environment(tmp_path: Path) -> None:
    text = CHAIN.replace("127.0.0.1:8545", "${HOST}/${KEY}") + CONTRACT
    (config,) = read(tmp_path, text, HOST="node.example", KEY="s3cret").values()
    assert config.urls == ("http://node.example/s3cret",)
    for environ in ({"HOST": "node.example"}, {"HOST": "node.example", "KEY": ""}):
        said = fault(tmp_path, text, **environ)
        assert said == "chain eip155:31337: urls: URL 1 needs ${KEY}, which is not set; export KEY"


def test_no_message_shows_more_than_a_host(tmp_path: Path) -> None:
    secret = "https://user:s3cret@node.example/s3cret?key=s3cret"
    twice = CHAIN.replace('"http://127.0.0.1:8545"', f'"{secret}", "{secret}"') + CONTRACT
    said = fault(tmp_path, twice)
    assert "node.example" in said and "there twice" in said and "s3cret" not in said
    for url in (
        "ftp://s3cret.example",
        "s3cret",
        "http://",
        "http://a:s3cret/",
        "http://s3 cret",
        "http://[s3cret",
    ):
        said = fault(tmp_path, CHAIN.replace("http://127.0.0.1:8545", url) + CONTRACT)
        assert "URL 1 is no address of a node" in said and "s3cret" not in said and "s3 cret" not in said
    assert "s3cret" not in fault(tmp_path, CHAIN.replace('"http:', '{ s3 = "s3cret" }, "http:') + CONTRACT)


def test_abis(tmp_path: Path) -> None:
    (tmp_path / "abi").mkdir()
    (tmp_path / "abi/plain.json").write_text(json.dumps(ABI))
    (tmp_path / "abi/artifact.json").write_text(json.dumps({"contractName": "X", "abi": ABI}))
    text = (
        CHAIN
        + f"""
    start_block = 3
    [[chain.contract]]
    address = "{TOKEN}"
    abi = "abi/artifact.json"
    [[chain.factory]]
    address = "{FACTORY}"
    event = "Made"
    abi = "abi/plain.json"
    parameter = "token"
    made_abi = "abi/plain.json"
    made_kind = "erc721"
    """
    )
    (config,) = read(tmp_path, text).values()
    (contract,), (factory,) = config.contracts, config.factories
    made = (event("Made(address indexed token)").topic0, 2)
    assert (
        made in contract.declared.events and made in factory.made.events and made in factory.declared.events
    )
    assert factory.made.standards == {"erc721"} and factory.signature == "Made(address)"
    assert contract.start_block == factory.start_block == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind =", "kid =", f"chain eip155:31337: contract {TOKEN}: kid: unknown key; did you mean kind?"),
        ("urls", "url", "chain eip155:31337: urls: missing; add it"),
        ("[[chain]]", "chains = 1\n[[chain]]", "chains: unknown key; did you mean chain?"),
        ('"erc20"', '"erc2O"', f"chain eip155:31337: contract {TOKEN}: kind: no kind 'erc2O'; did you mean erc20? "
         "(or give an ABI)"),
        (TOKEN, "0x12", "chain eip155:31337: contract 0x12: address: '0x12' is no address; write 0x and 40 hex digits"),
        ("eip155:31337", "ethereum", "chain ethereum: name: 'ethereum' names no EVM chain; write eip155:<chain id>, "
         "e.g. eip155:1"),
        ("start_block = 12", "start_block = -1", f"chain eip155:31337: contract {TOKEN}: start_block: must be greater "
         "than or equal to 0"),
        ("start_block = 12", 'start_block = "12"', f"chain eip155:31337: contract {TOKEN}: start_block: must be a "
         "whole number"),
        ("start_block = 12", "", "chain eip155:31337: start_block: missing; say from which block on the chain is read "
         "(0 = all of it)"),
        ('kind = "erc20"', "", f"chain eip155:31337: contract {TOKEN}: neither kind nor abi; say what it is, e.g. "
         'kind = "erc20"'),
        ("http://127.0.0.1:8545", "", "chain eip155:31337: urls 1: is empty; write it or leave the key out"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = CHAIN + CONTRACT
    assert old in text
    assert fault(tmp_path, text.replace(old, new)) == said


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("depth_limit = 0", "depth_limit: must be greater than or equal to 1"),
        ("final_quorum = 9", "final_quorum: 9 nodes can't agree where urls names 1; name more nodes or a smaller one"),
        ("start_block = 13", f"contract {TOKEN}: start_block 12 is below the chain's, 13; raise it, or lower "
         "the chain's"),
        ('finality = "depth"', 'final_depth: finality = "depth" needs one; say how many blocks behind the newest are '
         "final"),
        ('finality = "depth"\nfinal_depth = 3\nconfirmation = "safe"', 'confirmation: a chain without tags (finality = '
         '"depth") has no tag \'safe\'; say "head", or finality = "tag"'),
        ('confirmation = "latest"', "confirmation: must be one of 'head', 'safe' or 'finalized'"),
        ("rate = inf", "rate: must be a finite number"),
        ("everything = 1", "everything: must be true or false"),
        ('watched = ["0x1"]', "watched 1: '0x1' is no address; write 0x and 40 hex digits"),
        ("poll = 2.0", "poll: unknown key; did you mean poll_s?"),
        ("contract = 5", None),
    ],
)  # fmt: skip
def test_keys_of_a_chain(tmp_path: Path, key: str, said: str | None) -> None:
    found = fault(tmp_path, CHAIN + key + CONTRACT)
    assert said is None or found == f"chain eip155:31337: {said}"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (MADE, "Made", "event: no event 'Made' is known of it (none: give its abi), or write it out: "
         'event = "Made(address indexed token)"'),
        (MADE, "Made(address indexed token", "not an event declaration: 'Made(address indexed token'"),
        (MADE, "Made(address indexed token, address creator) anonymous", "is anonymous, its logs can't be told"),
        (MADE, "Made(uint7 x, address token)", "no ABI type uint7"),
        ('"token"', '"toke"', "parameter: 'toke' is no address in Made(address,address); of type address there: "
         "token, creator"),
        ('made_kind = "erc20"', "", "neither made_kind nor made_abi"),
        ('made_kind = "erc20"', 'made_abi = "none.json"', "none.json can't be read (No such file or directory)"),
    ],
)  # fmt: skip
def test_factories(tmp_path: Path, old: str, new: str, said: str) -> None:
    found = fault(tmp_path, CHAIN + MAKER.replace(old, new))
    assert found.startswith("chain eip155:31337: ") and said in found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no ABI: Expecting property name"),
        ("5", "is no ABI: an ABI is a JSON array of declarations"),
        ("[]", "declares no event; give the ABI of what is behind a proxy"),
        ('[{"type": "event", "name": "X", "inputs": [{"name": "a"}]}]', "is no ABI: an argument has no type"),
        ('[{"type": "event", "name": "X", "inputs": ["a"]}]', "is no ABI"),
        ('[{"type": "event", "name": "X", "inputs": [{"type": "tuple", "components": [1]}]}]', "is no ABI"),
    ],
)  # fmt: skip
def test_broken_abis(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x.json").write_text(content)
    found = fault(tmp_path, CHAIN + CONTRACT.replace('kind = "erc20"', 'abi = "x.json"'))
    assert f"contract {TOKEN}: abi: {tmp_path / 'x.json'} {said}" in found


def test_overloaded_events_must_be_written_out(tmp_path: Path) -> None:
    both = [
        {"type": "event", "name": "Made", "inputs": [{"name": "token", "type": "address"}] * n}
        for n in (1, 2)
    ]
    (tmp_path / "x.json").write_text(json.dumps(both))
    said = fault(tmp_path, CHAIN + MAKER.replace(MADE, "Made") + 'abi = "x.json"')
    assert "'Made' may be Made(address) or Made(address,address); write out which" in said
    (config,) = read(tmp_path, CHAIN + MAKER + 'abi = "x.json"').values()
    assert config.factories[0].signature == "Made(address,address)"
    assert not config.factories[0].events[0].args[0].indexed  # as the ABI has it


def test_nothing_twice_and_nothing_for_nothing(tmp_path: Path) -> None:
    assert "contract 0x" in (said := fault(tmp_path, CHAIN + CONTRACT * 2)) and "named twice" in said
    assert "factory 0x" in (said := fault(tmp_path, CHAIN + MAKER * 2)) and "named twice" in said
    read(tmp_path, CHAIN + MAKER + MAKER.replace("Made(", "MadeToo("))
    assert fault(tmp_path, (CHAIN + CONTRACT) * 2).startswith("chain eip155:31337: named twice")
    assert "nothing is watched" in fault(tmp_path, CHAIN + "start_block = 0")
    assert fault(tmp_path, "") == "chain: missing; add it"
    assert "is no TOML" in fault(tmp_path, "[[chain")
    with pytest.raises(ConfigError, match=r"nowhere\.toml: can't be read: No such file"):
        read_config(tmp_path / "nowhere.toml", {})
