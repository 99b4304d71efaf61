"""Searching for settings: `marsrl tune`, with Optuna.

- `space`: what is tuned, ranges and choices, from a TOML file or by default
- `plan`: a search: its studies, one for each objective (and family), with equal effort
- `scores`: what a trial came to, from its run folders
- `studies`: Optuna's studies in a folder that any number of processes share
- `launch`: training the trials in processes of this machine, and ending the hopeless ones
- `trials`: those of a search, with what they came to
- `results`, `figures`: the best settings as TOML, a table, and pictures
- `commands`: the command line
"""
