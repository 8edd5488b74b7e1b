"""Where a run computes: the only place that knows of devices."""
