"""What is for people: terminals, notebooks, speech, tracing."""
