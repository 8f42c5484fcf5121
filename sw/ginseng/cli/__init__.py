"""The command `ginseng`: one thin module per subcommand.

With ``--json`` a command prints one JSON document on standard output; progress and tables for
people go to standard error then. Bad input gives one line and a non-zero exit status.
"""
