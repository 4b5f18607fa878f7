"""Defines the command line, one command in each file. A command imports its modules when it runs, so that the others start fast.

May import everything.
"""
