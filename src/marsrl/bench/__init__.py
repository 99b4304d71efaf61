"""The benchmark: tasks x objectives x seeds, planned, trained, collected; nothing here needs JAX.

- `suite`: what is to be trained, from a TOML file
- `comparison`: one task, or runs that there are already, as a suite
- `plan`: the jobs of a suite in a store
- `progress`: how far they have come
- `launch`: jobs as processes of this machine; `cluster`: the same on Ray
- `process`, `worker`: such a process, from outside and from inside
- `measure`: what a plan will take
- `records`: what is known of the runs
- `results`, `rows`: run folders as tables; `marl_eval`: the same in marl-eval's JSON
- `commands`, `show`: the command line, and what it prints
"""
