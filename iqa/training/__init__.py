"""02: fit one run, with its losses, schedules and batches, in one process or several."""
