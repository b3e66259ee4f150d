"""The built-in trackers, a module each; see `evorec.tracking.tracker`."""
