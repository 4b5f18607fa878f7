"""The command line, one command a file. Commands import what they need when they run, so that the others start fast."""
