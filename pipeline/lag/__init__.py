"""How far behind everything is, from Kafka and the nodes alone: `watch.Watch` looks, pipeline.domain.lag judges."""
