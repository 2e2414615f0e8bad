"""MCP servers as a source of tools: each a row of a workspace, its tools known by the hash of their definitions.

services   people's use cases: define a server, refresh it, trust it, approve a changed definition
catalogue  the tools of a workspace as ToolSpecs, beside those of the registry
listing    what a server says of its tools, judged: names, schemas, sizes, digests
matching   arguments against a definition's schema
door       how everybody else reaches the next ones, which need the ``mcp`` library: only when they are used
calls      list tools, call one: on the process's event loop
pool       one session a server and process; whoever finds it broken gets another
guarded    the library's HTTP through the guard, bounded
keeper     the process between us and a server on stdio: bounded, and dead when we are
"""
