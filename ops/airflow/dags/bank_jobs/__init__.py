"""The parts of the DAGs: settings, commands in the project's environment, and alarms."""
