"""Beyond the paper: readers solved anew for the neurons that are kept, and neurons chosen for that."""
