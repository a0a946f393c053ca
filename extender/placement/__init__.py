"""Pure GPU placement: what a GPU can hold, what a pod asks for, and where it fits best."""
