"""What belongs to no single paper, registered by the same hooks as everything else."""
