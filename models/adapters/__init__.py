"""Other libraries' models as users' own classes: their bands, statistics and tokens."""
