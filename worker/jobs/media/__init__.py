"""The files of video jobs: where they are stored, and how uploads are probed before they are accepted."""
