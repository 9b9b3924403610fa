"""A process of its own that judges a data directory: `python -m tests.support.report_child DIR CHAIN`.

chDB serves one path a process. Prints the report of pipeline.report as JSON.
"""

import json
import sys

from pipeline.app import open_books, open_history
from pipeline.ingest.chains import ChainRegister
from pipeline.report import make_report
from pipeline.settings import read_settings


def main(data_dir: str, chain_name: str) -> None:
    settings = read_settings(data_dir=data_dir)
    chain = ChainRegister(settings.chains_dir).find(chain_name)
    history, books = open_history(settings, "test report"), open_books(settings)
    try:
        report = make_report(books, history, chain.name, chain.number)
    finally:
        books.close()
        history.close()
    print(json.dumps(report, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
