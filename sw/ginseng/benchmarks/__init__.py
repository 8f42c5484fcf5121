"""What `ginseng bench` measures: functions that return plain numbers, one module per subject."""
