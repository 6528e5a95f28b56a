"""Messages between a runner and a QPU server; generated from ``qpu.proto`` by ``make proto``."""
