"""S0, LayerLedger: the rules of applications' assets. Pure."""
