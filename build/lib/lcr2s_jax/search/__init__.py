"""Search in one's own pictures: a trained student, what it has embedded, and the sentences that look for it."""
