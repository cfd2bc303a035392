"""Rules for the whole tree: layout, layers, exports, sizes, dependencies, committed files."""
