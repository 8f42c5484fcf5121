"""Each format of models: how it becomes Relax, and what it calls its nodes."""
