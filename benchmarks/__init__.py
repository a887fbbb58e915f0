"""Claims about speed, each a runnable file that prints a table and writes JSON to docs/evidence/."""
