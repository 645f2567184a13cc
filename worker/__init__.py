"""The GPU side of Stoker: the contract with the API (`worker.jobs`) and the workers that keep it."""
