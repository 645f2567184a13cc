"""Tracks: a clip's sound and subtitles in a form that MP4 can hold, made before the first batch."""
