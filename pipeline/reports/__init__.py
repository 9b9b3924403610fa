"""Reports: what analysts are told, each with the SQL that it is and the SQL that recomputes its numbers.

`question` has periods and words that everybody asks with; `gas`, `provenance` and `compliance` are the reports, pure;
`manifest` is what signs an export, pure; `files` writes and checks exports.
"""
