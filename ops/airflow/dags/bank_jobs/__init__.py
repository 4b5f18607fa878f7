"""What the DAGs are made of: settings, commands of the project's own environment, and the alarm."""
