"""Commands that set up, watch and repair a deployment.

May import everything below app.proof in the layers: the composition roots (app.streams, app.lake, app.warehouse) and what they import.
"""
