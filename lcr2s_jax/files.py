"""Files of the project: names that can be stored, locks, writing aside and renaming, JSON."""


def storable(*texts: str) -> bool:
    """Whether a file can hold these."""
    try:  # JSON can spell half a character (a lone surrogate)
        return '\0' not in ''.join(texts).encode().decode()
    except UnicodeEncodeError:
        return False
