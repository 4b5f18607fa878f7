"""Runs the system on one machine: the stack of servers, the simulated bank and the demo.

The demo may import the stack and the simulator; these two may import everything below app.cli, but not each other.
"""
