"""The command line: `cellclass COMMAND --flag=value`."""
