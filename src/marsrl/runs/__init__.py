"""A run on disk and on the console: folder, log, checkpoints, host loop, trained policies."""
