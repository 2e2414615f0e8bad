"""What ``make demo`` shows: real goals over the REST API of a real stack.

It lives here and not in an edge because it imports none: it knows agentsys only by HTTP, as any
client does.  The same stack is the supervisor's.
"""
