"""Commands that anybody may have written, in a box of their own: see ``box.run``."""
