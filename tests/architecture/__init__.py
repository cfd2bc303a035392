"""What holds for the whole tree: layout, layers, exports, sizes, dependencies, what is committed."""
