"""From run folders to tables and figures; nothing here needs JAX.

- `stats`: intervals and comparisons, arrays in and arrays out
- `runs`: a run folder, read and checked
- `figures`: the one look of every figure
- `learning`: the learning curve of one run
- `compare`: several objectives on one task, as a table and a figure
"""
