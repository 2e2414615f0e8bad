"""The tools that come along.  Each module is a slice of its own, with its tests."""
