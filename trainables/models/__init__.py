"""Networks. Ordinary `nn.Module`s: how many of them train together is not their concern."""
