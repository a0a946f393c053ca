"""What sharing one GPU costs, and what MPS keeps of its promises: measured on the GPU of this machine."""
