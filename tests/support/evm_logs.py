"""Logs as contracts emit them, made for tests from the event's declaration."""

from eth_abi import encode

from pipeline.domain.decode.evm_abi import event

ERC20 = "Transfer(address indexed from, address indexed to, uint256 value)"
TOKEN, ALICE, BOB, CAROL = (f"0x{n:040x}" for n in (0xA0, 0xA11CE, 0xB0B, 0xCA401))


def topic(kind, value):
    return "0x" + encode([kind], [value]).hex()


def emitted(declaration, *values, address=TOKEN, index=0):
    """The log that a contract emits for an event declared so."""
    of = event(declaration)
    topics = [] if of.anonymous else [of.topic0]
    topics += [topic(arg.type, v) for arg, v in zip(of.args, values, strict=True) if arg.indexed]
    rest = [(arg.type, v) for arg, v in zip(of.args, values, strict=True) if not arg.indexed]
    data = "0x" + encode([kind for kind, _ in rest], [v for _, v in rest]).hex()
    return {"address": address, "topics": topics, "data": data, "logIndex": hex(index)}
