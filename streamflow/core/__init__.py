"""Records as every layer speaks of them: batches in two layouts, schemas, keys, and Python values."""
