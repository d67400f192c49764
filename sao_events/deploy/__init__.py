"""What is in force: how a folder or a commit becomes the project that is decided with, and what another would do."""
