"""Pure functions of tensors: distances, ranking, stripe alignment, re-ranking, and what they need."""
