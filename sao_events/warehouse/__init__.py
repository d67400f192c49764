"""What is asked of the warehouse itself, in its own SQL, and how its answers are read."""
