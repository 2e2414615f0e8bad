"""The edge to Celery: rings, runs slices of a lane, tells what ran.  State is elsewhere (``agentsys.runs``)."""
