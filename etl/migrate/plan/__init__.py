"""`--plan`: what a run would do, from a sample of the source and a trial load in memory. It changes no file."""
