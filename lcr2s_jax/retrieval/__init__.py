"""Search in one's own pictures: a trained student, the pictures it has embedded, and the sentences that look for them."""
