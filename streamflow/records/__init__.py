"""What flows: batches in two layouts, the union of stream elements, and how they become bytes."""
