"""Replacing a CA, or the root, without stranding a device: what is known of it, who must know it, when it may go."""
