"""What people read: tables, plots, model cards, the report."""
