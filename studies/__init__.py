"""The studies behind the documentation: published experiments, the closed loop, the regimes."""
