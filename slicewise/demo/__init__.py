"""The real scaler and extender on loopback around a simulated cluster."""
