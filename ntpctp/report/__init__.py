"""What people read: the HTML report, the terminal, tables, model cards. From files only."""
