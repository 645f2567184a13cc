"""The probe: it examines an upload in a confined child process."""
