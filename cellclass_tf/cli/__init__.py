"""The commands: `cellclass COMMAND --flag=value`."""
