"""Streams: queue, skid buffer, arbiter, width conversion."""
