//! Layers, initialisers, losses and a model zoo on Burn.
