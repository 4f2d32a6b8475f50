"""Both models run, traced and intercepted; the inputs that they get."""
