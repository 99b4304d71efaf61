"""Spreading a run over devices, and over processes on one or more machines."""
