"""The sans-IO core: everything that decides, without clock, network, thread or unseeded randomness."""
