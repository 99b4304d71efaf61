"""How much is tried of what has hundreds of cases."""

import os

ALL = os.environ.get("FAULTS") == "all"
"""All of it (`make faults`), instead of a handful."""
