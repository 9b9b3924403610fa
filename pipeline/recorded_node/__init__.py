"""A node that answers from a recording, in a real node's own words, with faults on request."""

from pipeline.recorded_node.faults import FaultError, Faults, fault_names, parse_faults
from pipeline.recorded_node.server import RecordedNode
from pipeline.recorded_node.tape import Tape, TapeError
from pipeline.recorded_node.view import Fees

__all__ = ["FaultError", "Faults", "Fees", "RecordedNode", "Tape", "TapeError", "fault_names", "parse_faults"]
