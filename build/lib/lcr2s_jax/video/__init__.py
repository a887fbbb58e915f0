"""People in videos: detected, followed, cropped."""
