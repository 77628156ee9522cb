"""One leader per cluster: it starts runs, sees them through, and says what ought to be served."""
