"""From run folders to tables and figures; nothing here needs JAX.

- `stats`: scores, aggregates and comparisons, arrays in and arrays out
- `bootstrap`: their intervals; `permutation`: exact ones of a single task
- `runs`: a run folder, read and checked
- `figures`: the one look of every figure
- `learning`: the learning curve of one run; `series`: any logged series of several
- `grids`, `curves`, `diagnostics`, `verdict`, `factorial`, `settings`, `response`, `origins`: a
  benchmark's results as numbers
- `summary`: all of these together; `wording`: its sentences
- `benchmark_figures`, `styles`: its figures; `page`: its HTML page
"""
