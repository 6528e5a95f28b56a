"""What carries decisions out: one idea each, and every decision made by the core or a pure function."""
