"""What users call. The Report is put together here, in one place."""
