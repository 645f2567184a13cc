"""The HTTP side of Stoker: takes jobs, shows the queue, streams events; never imports torch."""
