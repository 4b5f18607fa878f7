"""The system on one machine: the stack of servers, the simulated bank and the demo."""
