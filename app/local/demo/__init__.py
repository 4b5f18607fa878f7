"""Runs `bankstream demo`: the whole system on this machine under a simulated bank, measured from outside and verified at the end.

May import everything except app.cli.
"""
