"""Training of one cell: one loop for every model and task, exact resume, one checked result file."""
