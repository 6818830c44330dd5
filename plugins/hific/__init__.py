"""HiFiC: high-fidelity generative image compression, and its relatives MS-ILLM and No-GAN."""
