"""Commands of the applications' intake: `tidebook serve | keys`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli_options import AsJson, DataDir, settings_or_fail

keys_app = typer.Typer(no_args_is_help=True, help="API keys of `tidebook serve`; only their hashes are kept.")


def serve(
    data_dir: DataDir = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on (env TIDEBOOK_API_HOST).")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port to listen on (env TIDEBOOK_API_PORT).")
    ] = None,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Take in applications' events by HTTP, and answer what the history knows of them.

    What is answered with 202 is journalled on disk and acknowledged by Kafka. Writing needs an API key (`tidebook
    keys create`); the document of the interface is at /openapi.json.
    """
    from pipeline.serve_command import run

    raise typer.Exit(run(settings_or_fail(data_dir=data_dir, api_host=host, api_port=port), supervised))


@keys_app.command("create")
def create(
    client: Annotated[str, typer.Option("--client", help="Name of the application or service.")],
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope",
            help="What it may do; may be repeated: assets:write, positions:read, …, people:write, service (writes "
            "for every user), root (reads everything).",
        ),
    ],
    user: Annotated[str, typer.Option("--user", help="The user whose own events it may send.")] = "",
    rate: Annotated[float, typer.Option("--rate", min=0, help="Requests a second; 0: the default.")] = 0,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Make a key; it is shown once."""
    from pipeline.keys_command import create_key

    raise typer.Exit(create_key(settings_or_fail(data_dir=data_dir), client, user, scope, rate, json))


@keys_app.command("list")
def list_keys(data_dir: DataDir = None, json: AsJson = False) -> None:
    """Keys with their clients and scopes, never the keys themselves."""
    from pipeline.keys_command import list_keys as listed

    raise typer.Exit(listed(settings_or_fail(data_dir=data_dir), json))


@keys_app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="Id of the key, as `keys list` shows it.")],
    data_dir: DataDir = None,
) -> None:
    """End a key; a running server refuses it within a second."""
    from pipeline.keys_command import revoke_key

    raise typer.Exit(revoke_key(settings_or_fail(data_dir=data_dir), key))
