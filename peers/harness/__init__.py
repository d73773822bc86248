"""Starts, drives and stops the real systems the second stage runs against. Only the standard library and the clients of `python/requirements.txt`."""
