"""DiffEIC: extreme compression with a latent diffusion prior."""
