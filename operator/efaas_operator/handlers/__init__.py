"""What kopf calls: thin, each hands what it was told to the world."""
