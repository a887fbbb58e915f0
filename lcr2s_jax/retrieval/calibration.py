"""From scores to probabilities."""


class Calibration:
    def to_json(self) -> dict:
        return {}

    @classmethod
    def from_json(cls, content):
        return cls()
