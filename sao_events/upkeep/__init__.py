"""What is done in the warehouse beside building: looks at relations and sources, and dropping what is left behind."""
