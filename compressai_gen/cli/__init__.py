"""The command line: one module a sub-command, with `add_arguments(parser)` and `run(args)`.

A command that passes its arguments on to another program has `main(argv)` instead.
"""
