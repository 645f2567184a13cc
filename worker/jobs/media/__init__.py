"""The files of video jobs: their storage, and the checks of uploads before they are accepted."""
