"""Messages and the Mustache templates that they are built from. Pure."""
