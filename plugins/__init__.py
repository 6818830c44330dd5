"""The built-in plugins, one folder a paper; imported as `compressai_gen_plugins`."""
