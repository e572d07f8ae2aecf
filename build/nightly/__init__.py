"""The nightly: build, record, log, notification, schedule, and pruning afterwards."""
