"""Commands that prove a deployment right: reconcile, trace, rebuild and replay."""
