"""Images as data: where they lie, which of them are used, how they are decoded, encoded and changed."""
