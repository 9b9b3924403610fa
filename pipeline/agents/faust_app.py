"""Faust's settings for one role: what FIELD-NOTES.md, "Faust", says that they must be."""

from __future__ import annotations

import faust

from pipeline.settings import Settings


def make_app(settings: Settings, role: str, batch_max: int) -> faust.App:
    """The app of a role: its consumer group is `tidebook-<role>`.

    A worker with a name of its own (setting TIDEBOOK_INSTANCE) is a static member: what it leaves it finds
    again if it is back within the session.
    """
    instance = settings.instance
    datadir = settings.data_dir / "faust" / role
    datadir.mkdir(parents=True, exist_ok=True)
    return faust.App(
        f"tidebook-{role}",
        broker="kafka://" + settings.kafka_url.replace(",", ";kafka://"),
        store="memory://",
        datadir=str(datadir),
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=16 << 20,
        consumer_group_instance_id=f"{role}-{instance}" if instance else None,
        stream_buffer_maxsize=max(8192, 4 * batch_max),
        broker_max_poll_records=5000,
        broker_max_poll_interval=86_400.0,  # a role that waits for its store reads nothing, and is alive
        broker_commit_interval=1.0,
        broker_session_timeout=settings.broker_session_s,
        broker_heartbeat_interval=settings.broker_session_s / 4,
        stream_wait_empty=False,
        web_enabled=bool(settings.web_port) and role == "assets",
        web_port=settings.web_port or 6066,
        web_bind="127.0.0.1",
        producer_acks=-1,
        autodiscover=False,
    )
