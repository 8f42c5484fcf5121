"""The tensor encryption core: table, versions, chunk sequencer, lane, store barrier, faults."""
