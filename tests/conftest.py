import os

import jax
from hypothesis import settings

# The same examples every time, and no failure because the machine was busy.
settings.register_profile("marsrl", derandomize=True, deadline=None)
settings.load_profile("marsrl")

# Nearly all the time goes into compiling small programs that run once; the first saves 40 % of it,
# the second 60 % of the rest. The programs of trainings have it anyway (`marsrl.compiler`).
jax.config.update("jax_disable_most_optimizations", True)
if jax.__version_info__ < (0, 11):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
    )
