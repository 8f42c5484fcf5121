"""What surrounds a block under test: random programs, memory and bus models, model loaders."""
