"""Other libraries' environments behind our interface; a folder per library, imported on use."""
