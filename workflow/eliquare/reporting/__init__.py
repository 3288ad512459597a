"""What people read: tables, figures, model cards, the report."""
