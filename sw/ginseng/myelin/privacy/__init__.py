"""The mechanism: who is sampled, what is summed, which noise is added, and what that costs."""
