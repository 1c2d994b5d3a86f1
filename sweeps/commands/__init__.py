"""One module per command. Each holds a function of the command's own name, its arguments typed for Typer."""
