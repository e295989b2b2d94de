"""Calls of functions in forward methods: which are known, which layer a tensor comes from, what a call is named."""
