"""Goliath: offload sets of Python calls to pools of remote worker processes."""
